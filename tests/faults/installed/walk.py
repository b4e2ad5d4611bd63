"""A walk up a cloud while it is installed, and down again: at each place all faults, and a look at the whole world.

Right before a step, the world is as the step finds it. There each case takes that one step with its fault, in an
operation of its own, which is undone afterwards; the world is then what it was. On the way down, every step is undone
once more, and the world at each place is what it was on the way up.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import groupby

from levier import __version__
from levier.bootstrap import now
from levier.domain.install_plan import REACH, SMOKE_REMOVE, SMOKE_TEST, pillars, planned
from levier.domain.operation import OperationState, PlannedStep
from levier.saga.engine import Saga
from levier.saga.step import Undo
from levier.services.components.installed import installed_components
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from tests.faults.cases import Aftermath, FaultCase
from tests.faults.conduct import Verdict, strike
from tests.faults.installed.kinds import INSTALL, Place, registered
from tests.faults.installed.rack import InstalledRack
from tests.faults.installed.world import Observer, World
from tests.faults.verdict import not_reported, words
from tests.faults.worker import carry_out, take_back

HOLD = "acquire-lease"
_NOTHING = World(frozenset())


@dataclass(frozen=True, slots=True)
class _Rung:
    """An operation that was carried out on the way up, and the world before it."""

    operation: str
    before: World | None


_LEFT_BY_PACKAGES = re.compile(r"\t(/etc/mysql|/var/lib/mysql|(mysql|rabbitmq|epmd):|epmd\.(service|socket) )")
"""What their scripts leave when packages are purged (docs/packages.md, Left behind), and erlang's port mapper, which
goes with its package and not with RabbitMQ's stop."""


class Walk:
    """One walk over the hosts of a rack; for a thread inside of their network."""

    def __init__(self, rack: InstalledRack, cases: Mapping[Place, Sequence[FaultCase]]) -> None:
        self._rack = rack
        self._services = rack.services
        self._observer = Observer(rack.lab, rack.services, rack.directory)
        self._cases = cases
        self._saga = Saga(SqlStepLog(open_engine(rack.settings.database_url)), now, __version__)
        self._ladder: list[_Rung] = []
        self._lasting = _NOTHING
        """What steps without an undo left, which only goes with what they did it to."""

    def go(
        self,
        verdicts: Mapping[FaultCase, Future[Verdict]],
        *,
        tell: Callable[[str], None] = print,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[str]:
        """The way up, with a verdict on each case, and down again. What was not as before on the way down.

        Stops where it is when `stop` says so, between two cases.
        """
        bottom = self._observer.look()
        for place, stretch in self._stretches():
            for lasting, steps in groupby(stretch, key=_lasts):
                before = self._observer.look() if lasting else _NOTHING
                self._climb([*steps])
                if lasting:
                    self._note_lasting(before, self._observer.look())
            if place is not None:
                worlds, wrong = self._worlds_at(place)
                for case in self._cases[place]:
                    if stop():
                        return ["stopped"]
                    verdict = Verdict("not tried", wrong) if wrong else self._judge(place, case, worlds)
                    wrong = wrong or tuple(f"after “{case.fault}”: {each}" for each in verdict.wrong)
                    tell(f"{case}: {verdict.words} {'; '.join(verdict.wrong)}")
                    verdicts[case].set_result(verdict)
                if place.step not in SMOKE_TEST - {SMOKE_REMOVE}:
                    self._climb([place.planned], before=worlds.before)
        return list(self._down(bottom, tell))

    def _stretches(self) -> Iterator[tuple[Place | None, list[PlannedStep]]]:
        """Each place with the steps before it, in the order of the plan; at last the steps after the last place."""
        at = {place.planned: place for place in self._cases}
        stretch: list[PlannedStep] = []
        for each in planned(self._rack.cloud.stages):
            if each.step == HOLD or (each.step in SMOKE_TEST and each not in at):
                continue  # every operation here begins with it; for the smoke test see `_smoke_test_before`
            if each in at:
                yield at[each], stretch
                stretch = []
            else:
                stretch.append(each)
        yield None, stretch

    # --- operations -------------------------------------------------------------------------------------------------

    def _order(self, steps: Sequence[PlannedStep]) -> str:
        """An operation of these steps and of what they need, in stages; its id."""
        steps = [*self._smoke_test_before(steps[0]), *steps]
        targets = list(dict.fromkeys(each.target for each in steps))
        plan = [PlannedStep(step, target) for target in targets for step in (HOLD, *_needs(steps, target))]
        for number, (_, stage) in enumerate(groupby(steps, key=lambda each: each.wave), start=1):
            plan += [PlannedStep(each.step, each.target, wave=number) for each in stage]
        revision, site = self._services.sites.current()
        others_build_on = pillars(site, installed_components()) & set(targets)
        return self._saga.create(
            kind=INSTALL,
            targets=targets,
            plan=plan,
            parameters={"revision": revision, "pillars": sorted(others_build_on)},
            requested_by="fault suite",
            key=str(uuid.uuid4()),
        ).id

    def _smoke_test_before(self, first: PlannedStep) -> list[PlannedStep]:
        """What is made in a smoke test is its operation's own: each of its steps comes with those before it."""
        plan = planned(self._rack.cloud.stages)
        earlier = plan[: plan.index(first)] if first.step in SMOKE_TEST else ()
        return [each for each in earlier if each.step in SMOKE_TEST]

    def _climb(self, steps: Sequence[PlannedStep], *, before: World | None = None) -> None:
        """The steps stand from now on."""
        operation = self._order(steps)
        settlement = carry_out(self._services, operation, parallel=2)
        assert settlement.state is OperationState.SUCCEEDED, settlement.reason
        self._ladder.append(_Rung(operation, before))

    def _down(self, bottom: World, tell: Callable[[str], None]) -> Iterator[str]:
        """Everything that stands is undone, the last first. What is not as it was then."""
        for rung in reversed(self._ladder):
            settlement = take_back(self._services, rung.operation)
            if settlement.state is not OperationState.ROLLED_BACK:
                yield f"{rung.operation}: {settlement.state}: {settlement.reason}"
                return
            if rung.before is not None:
                step = self._services.operations.status(rung.operation).steps[-1].step
                tell(f"down again before {step}")
                yield from (f"before {step}: {each}" for each in self._unlike(rung.before))
        yield from (f"at the bottom: {each}" for each in self._unlike(bottom))

    def _unlike(self, before: World) -> Iterator[str]:
        differences = self._observer.look().differences(before, besides=self._lasting)
        return (each for each in differences if not _LEFT_BY_PACKAGES.search(each))

    # --- one place --------------------------------------------------------------------------------------------------

    def _worlds_at(self, place: Place) -> tuple[_Worlds, tuple[str, ...]]:
        """The worlds before and after the step, as it is without any fault, and what is wrong with its undo."""
        before = self._observer.look()
        operation = self._order([place.planned])
        settlement = carry_out(self._services, operation)
        assert settlement.state is OperationState.SUCCEEDED, f"{place.step}: {settlement.reason}"
        after = self._observer.look(operation=operation)
        take_back(self._services, operation)
        undone, lasting = self._observer.look(), _NOTHING
        if isinstance(registered()[place.step].undo, Undo):
            lasting = self._note_lasting(before, undone)
        return _Worlds(before, after, lasting), tuple(undone.differences(before, besides=lasting))

    def _note_lasting(self, before: World, after: World) -> World:
        lasting = after.unlike(before)
        self._lasting = World(self._lasting.lines | lasting.lines)
        return lasting

    def _judge(self, place: Place, case: FaultCase, worlds: _Worlds) -> Verdict:
        operation = self._order([place.planned])
        wrong = [*strike(self._rack.settings, self._services, case, operation, namespace=self._rack.namespace)]
        status = self._services.operations.status(operation)
        if status.state is not case.expected:
            wrong.append(f"{status.state} instead of {case.expected}: {status.error}")
        elif status.state is OperationState.SUCCEEDED:
            wrong += self._observer.look(operation=operation).differences(worlds.after)
        elif status.state is OperationState.NEEDS_OPERATOR:
            wrong += not_reported(status, place.host, case.step)
        if status.state is not OperationState.ROLLED_BACK:
            take_back(self._services, operation)
        wrong += self._observer.look().differences(worlds.before, besides=worlds.lasting)
        return Verdict(words(status.state, resumed=case.aftermath is Aftermath.RECOVERY), tuple(wrong))


@dataclass(frozen=True, slots=True)
class _Worlds:
    """The world before a step and after it; and what stays of a step without an undo."""

    before: World
    after: World
    lasting: World


def _lasts(planned: PlannedStep) -> bool:
    """It acts and has no undo: its doing goes with what it was done to."""
    return planned.step != REACH and isinstance(registered()[planned.step].undo, Undo)


def _needs(steps: Sequence[PlannedStep], target: str) -> list[str]:
    """What the steps on the target cannot do without and is not among them, each after what it needs itself."""
    own = [each.step for each in steps if each.target == target]
    found: dict[str, None] = {}

    def add(step: str) -> None:
        for need in registered()[step].needs:
            if need not in own and need not in found:
                add(need)
                found[need] = None

    for step in own:
        add(step)
    return list(found)
