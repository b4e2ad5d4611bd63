"""Operations started over Prefect's own REST API, as its UI does: same result; wrong parameters do nothing."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.integration.e2e.installation import Installation
from tests.integration.e2e.terminal import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
FINAL = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def deployment(levier: Installation, name: str) -> dict[str, Any]:
    found: dict[str, Any] = levier.prefect.get(f"/deployments/name/{name}/{name}").raise_for_status().json()
    return found


def create_flow_run(levier: Installation, name: str, parameters: dict[str, Any]) -> httpx.Response:
    identity = deployment(levier, name)["id"]
    return levier.prefect.post(f"/deployments/{identity}/create_flow_run", json={"parameters": parameters})


def ended(levier: Installation, flow_run: str) -> dict[str, Any]:
    """The flow run's final state."""

    def look() -> dict[str, Any] | None:
        state: dict[str, Any] = levier.prefect_run(flow_run)["state"]
        return state if state["type"] in FINAL else None

    return until(look, what=f"flow run {flow_run} ended", every_s=0.3)


def test_the_run_form_explains_itself(levier: Installation) -> None:
    for name in ("expand", "inspect", "rollback", "recover"):
        found = deployment(levier, name)
        assert found["description"]
        schema = found["parameter_openapi_schema"]
        assert schema["additionalProperties"] is False
        for parameter, definition in schema["properties"].items():
            assert definition["description"], f"{name}: {parameter}"
            assert ("default" in definition) is (parameter not in schema.get("required", [])), f"{name}: {parameter}"
    properties = deployment(levier, "expand")["parameter_openapi_schema"]["properties"]
    assert {key: properties[key]["default"] for key in properties} == {"nodes": [], "parallel": 20, "wave_size": 100}


def test_an_operation_from_prefect_is_like_any_other_and_so_is_its_rollback(levier: Installation) -> None:
    mark = levier.mark()
    flow_run = create_flow_run(levier, "expand", {"nodes": ["a1-02"]}).raise_for_status().json()["id"]
    assert ended(levier, flow_run)["type"] == "COMPLETED"
    operation = next(
        o for o in levier.terminal.json("operation", "list") if o["targets"] == ["a1-02"] and o["state"] == "succeeded"
    )
    shown = levier.operation(operation["id"])
    assert shown["ui"].endswith(flow_run)
    assert (shown["kind"], shown["outcomes"]) == ("expand", {"a1-02": "ready"})
    assert {s["state"] for s in shown["steps"]} == {"succeeded"}
    assert levier.nodes()["a1-02"]["state"] == "ready"
    of_node = mark.page().of("a1-02")
    assert (of_node.powered_on(), of_node.image_writes(), of_node.booted_from()) == (1, 1, ["pxe", "disk"])

    until(
        lambda: task_states(levier, operation["id"]) == {f"{s['step']} a1-02": "COMPLETED" for s in shown["steps"]},
        what="one task run per step",
    )

    undo = create_flow_run(levier, "rollback", {"operation": operation["id"]}).raise_for_status().json()["id"]
    assert ended(levier, undo)["type"] == "COMPLETED"
    assert levier.operation(operation["id"])["state"] == "rolled_back"
    assert levier.machines()["a1-02"]["power"] == "off"
    assert levier.traces("a1-02") == []


def task_states(levier: Installation, operation: str) -> dict[str, str]:
    """Name of each task run of the operation's wave → its state, as the Prefect UI shows them."""
    waves = {"flow_runs": {"name": {"any_": [f"{operation} wave 0"]}}}
    found = levier.prefect.post("/task_runs/filter", json=waves).raise_for_status().json()
    return {run["name"]: run["state_type"] for run in found}


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"node": ["a1-01"]}, "node"),
        ({"nodes": "a1-01"}, "array"),
        ({"nodes": ["a1-01"], "parallel": 0}, "parallel"),
        ({"nodes": ["a1-01"], "parallel": "many"}, "many"),
    ],
)
def test_parameters_of_the_wrong_form_are_refused(levier: Installation, parameters: dict[str, Any], names: str) -> None:
    mark, before = levier.mark(), levier.get("/operations")
    answer = create_flow_run(levier, "expand", parameters)
    assert answer.status_code == 409, answer.text
    assert names in answer.text
    assert levier.get("/operations") == before
    assert not mark.page().events


@pytest.mark.parametrize(
    ("flow", "parameters", "says"),
    [
        ("expand", {"nodes": ["a1-99"]}, "a1-99"),
        ("expand", {"nodes": ["a1-01", "a1-01"]}, "a node is named twice"),
        ("rollback", {"operation": "expand-none"}, "expand-none"),
    ],
)
def test_parameters_that_name_nothing_end_in_a_clear_failure(
    levier: Installation, flow: str, parameters: dict[str, Any], says: str
) -> None:
    mark, before = levier.mark(), levier.get("/operations")
    state = ended(levier, create_flow_run(levier, flow, parameters).raise_for_status().json()["id"])
    assert state["type"] == "FAILED"
    assert says in state["message"]
    assert levier.get("/operations") == before
    assert not mark.page().events
    assert not levier.traces("a1-01")
