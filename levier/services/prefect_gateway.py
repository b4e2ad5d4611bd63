"""Levier's conversation with the Prefect server, over its REST API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import httpx
import tenacity

from levier.domain.errors import Busy, Conflict, InvalidRequest, NotFound, OutcomeUnknown, Unreachable
from levier.saga.recovery import RunState

FLOW_DEPLOYMENTS = {
    "expand": "expand/expand",
    "inspect": "inspect/inspect",
    "install": "install/install",
    "rollback": "rollback/rollback",
    "recover": "recover/recover",
}
"""Operation kind → `flow name/deployment name` in Prefect."""

TERMINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})

_RUN_STATES = {
    "SCHEDULED": RunState.WAITING,
    "PENDING": RunState.WAITING,
    "PAUSED": RunState.WAITING,
    "RUNNING": RunState.RUNNING,
    "CANCELLING": RunState.RUNNING,
    "COMPLETED": RunState.COMPLETED,
    "FAILED": RunState.FAILED,
    "CRASHED": RunState.CRASHED,
    "CANCELLED": RunState.CANCELLED,
}


@dataclass(frozen=True, slots=True)
class FlowRunState:
    """A flow run as Prefect sees it. `kind` is Prefect's state type in upper case (`RUNNING`, `CRASHED` …)."""

    flow_run_id: str
    kind: str
    name: str
    since: datetime | None = None
    """When it entered this state."""

    @property
    def run_state(self) -> RunState:
        """The state as recovery sees it."""
        return _RUN_STATES.get(self.kind, RunState.MISSING)

    @property
    def terminal(self) -> bool:
        """Prefect will do nothing more with this run by itself."""
        return self.kind in TERMINAL


class PrefectGateway:
    """Starts, inspects, retries and cancels flow runs; raises DriverErrors when the server does not answer."""

    def __init__(self, api_url: str, *, timeout_s: float = 20.0) -> None:
        self._client = httpx.Client(base_url=api_url, timeout=timeout_s)
        self.ui_url = api_url.removesuffix("/api")

    def start(self, kind: str, parameters: dict[str, Any], *, idempotency_key: str | None = None) -> str:
        """A flow run of the deployment for `kind` is scheduled; its id. Safe to repeat with an idempotency key."""
        deployment = self._deployment_id(FLOW_DEPLOYMENTS[kind])
        body: dict[str, Any] = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
        if idempotency_key is not None:
            body["idempotency_key"] = idempotency_key
        answer = self._call("POST", f"/deployments/{deployment}/create_flow_run", body)
        return str(answer["id"])

    def state(self, flow_run_id: str) -> FlowRunState:
        """What Prefect says of the run now. Safe to repeat. Raises NotFound."""
        run = self._call("GET", f"/flow_runs/{flow_run_id}")
        state = run.get("state") or {}
        entered = state.get("timestamp")
        since = None if entered is None else datetime.fromisoformat(entered)
        return FlowRunState(flow_run_id, str(state.get("type", "PENDING")), str(state.get("name", "")), since)

    def find(self, flow_run_id: str) -> FlowRunState | None:
        """What Prefect says of the run now; None when it does not know it. Safe to repeat."""
        try:
            return self.state(flow_run_id)
        except NotFound:
            return None

    def run_state(self, flow_run_id: str) -> RunState:
        """The run as recovery sees it; MISSING when Prefect does not know it. Safe to repeat."""
        found = self.find(flow_run_id)
        return RunState.MISSING if found is None else found.run_state

    def retry(self, flow_run_id: str) -> None:
        """The run is scheduled again under the same id, as Prefect's Retry button does. Safe to repeat."""
        # Without the time no worker is ever handed the run.
        details = {"scheduled_time": datetime.now(UTC).isoformat()}
        body = {"state": {"type": "SCHEDULED", "name": "AwaitingRetry", "state_details": details}, "force": True}
        self._call("POST", f"/flow_runs/{flow_run_id}/set_state", body)

    def give_up(self, flow_run_id: str, reason: str) -> None:
        """The run is Crashed, if it was said to run: nobody works on it any more. Safe to repeat."""
        found = self.find(flow_run_id)
        if found is not None and found.run_state is RunState.RUNNING:
            body = {"state": {"type": "CRASHED", "name": "Crashed", "message": reason}, "force": True}
            self._call("POST", f"/flow_runs/{flow_run_id}/set_state", body)

    def cancel(self, flow_run_id: str) -> None:
        """The run is asked to stop. Safe to repeat."""
        body = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": False}
        self._call("POST", f"/flow_runs/{flow_run_id}/set_state", body)

    def _deployment_id(self, name: str) -> str:
        flow, deployment = name.split("/")
        answer = self._call("GET", f"/deployments/name/{flow}/{deployment}")
        return str(answer["id"])

    @tenacity.retry(
        retry=tenacity.retry_if_exception_type(Busy),
        wait=tenacity.wait_random_exponential(0.1, max=2),
        stop=tenacity.stop_after_delay(20),
        reraise=True,
    )
    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """The decoded answer. Prefect on SQLite answers 503 when two transactions met: nothing was done then."""
        try:
            response = self._client.request(method, path, json=body)
        except httpx.ConnectError as error:
            raise Unreachable(
                f"the Prefect server at {self.ui_url} does not answer: {error}", hint="look at `levier status`"
            ) from error
        except httpx.HTTPError as error:
            raise OutcomeUnknown(f"the Prefect server at {self.ui_url} broke off: {error}") from error
        return _decoded(response, path)


def _decoded(response: httpx.Response, path: str) -> dict[str, Any]:
    if response.status_code == 503:
        raise Busy("the Prefect server is busy")
    if response.status_code == 404:
        raise NotFound(
            f"Prefect knows no {path}", hint="`levier up` registers the deployments; look at `levier status`"
        )
    if response.status_code == 409:
        raise InvalidRequest(f"Prefect refuses the parameters: {response.text[:500]}")
    if response.is_error:
        raise Conflict(f"Prefect answered {response.status_code} to {path}: {response.text[:500]}")
    answer: dict[str, Any] = response.json() if response.content else {}
    return answer
