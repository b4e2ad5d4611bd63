"""One case of the fault matrix, from an untouched node to its verdict."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass

from levier.domain.operation import OperationState, OperationStatus
from levier.services.registry import Services
from levier.services.settings import Settings
from tests.faults.cases import Aftermath, FaultCase
from tests.faults.rack import FaultRack
from tests.faults.verdict import Sight, never_right, not_done, not_reported, not_undone, words
from tests.faults.worker import carry_out, in_a_process, order, recover, services_with, take_back


@dataclass(frozen=True, slots=True)
class Verdict:
    """What Levier did about a fault, in words, and everything that is wrong with it."""

    words: str
    wrong: tuple[str, ...]


def strike(
    settings: Settings, services: Services, case: FaultCase, operation: str, *, namespace: str = ""
) -> Iterator[str]:
    """The fault has struck, and whoever is to go on has. What went wrong on the way."""
    if case.begins_back:
        carry_out(services, operation)
    if case.aftermath is Aftermath.RECOVERY:
        code = in_a_process(settings, case.faults, operation, back=case.begins_back, namespace=namespace)
        yield from _recovered(services, case, operation, code)
    elif case.begins_back:
        take_back(services_with(settings, case.faults), operation)
    else:
        carry_out(services_with(settings, case.faults), operation)


def _recovered(services: Services, case: FaultCase, operation: str, code: int | None) -> Iterator[str]:
    if code != -signal.SIGKILL:
        yield f"the worker ended with {code} instead of being killed"
    died = services.operations.status(operation)
    recover(services, operation)
    if not case.begins_back:
        now = services.operations.status(operation)
        repeated = [s.step for s in died.steps if s.done and now.step(s.step, s.target) != s]
        if repeated:
            yield f"completed steps were repeated: {', '.join(repeated)}"


def judge(rack: FaultRack, case: FaultCase) -> Verdict:
    """The case was carried out on a node of its own, and the node given back as it was."""
    try:
        with rack.a_node() as node:
            verdict = _Trial(rack, case, node).run()
            if verdict.wrong:
                raise _WrongError(verdict)
            return verdict
    except _WrongError as error:
        return error.verdict


class _WrongError(Exception):
    """Not right: the node is not to be lent again."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


class _Trial:
    def __init__(self, rack: FaultRack, case: FaultCase, node: str) -> None:
        self._rack = rack
        self._case = case
        self._node = node
        self._began = rack.place()
        self._operation = order(rack.services, case.kind, [node])

    def run(self) -> Verdict:
        wrong = [*strike(self._rack.settings, self._rack.services, self._case, self._operation)]
        status = self._status()
        if status.state is not self._case.expected:
            wrong.append(f"{status.state} instead of {self._case.expected}: {status.error}")
        wrong += self._after(status)
        if self._case.aftermath is Aftermath.OPERATOR and not wrong:
            take_back(self._rack.services, self._operation)
            wrong += not_undone(self._sight())
        verdict = words(status.state, resumed=self._case.aftermath is Aftermath.RECOVERY)
        wrong += self._clean()
        return Verdict(verdict, tuple(wrong))

    # --- the verdict --------------------------------------------------------------------------------------------------

    def _after(self, status: OperationStatus) -> Iterator[str]:
        sight = self._sight()
        yield from never_right(sight)
        if status.state is OperationState.SUCCEEDED:
            yield from not_done(sight)
        elif status.state is OperationState.NEEDS_OPERATOR:
            yield from not_reported(sight.status, sight.node, self._case.step)
        else:
            yield from not_undone(sight)

    def _clean(self) -> Iterator[str]:
        """The node is as it was before the case, for the next one."""
        if self._status().state is OperationState.SUCCEEDED:
            take_back(self._rack.services, self._operation)
            yield from (f"afterwards: {each}" for each in not_undone(self._sight()))

    def _status(self) -> OperationStatus:
        return self._rack.services.operations.status(self._operation)

    def _sight(self) -> Sight:
        return self._rack.sight(self._node, self._status(), since=self._began)
