"""The simulation finds bugs: each of these, put into the product, is found within a bounded number of histories."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from levier.domain.operation import Fence, JsonMap, StepEvent, StepStatus
from levier.saga import conductor, engine, recovery
from levier.saga.engine import Saga
from levier.saga.log import StepLog
from levier.saga.step import Step
from tests.simulation import steps as simulated
from tests.simulation.history import Product
from tests.simulation.memory_log import MemoryLog, Record
from tests.simulation.scenario import Going
from tests.simulation.search import Found, search
from tests.simulation.steps import Context

BATCHES = 20
"""Of 100 histories: the bound."""


class Forgetful(Saga):
    """Takes no state before."""

    def _start(self, entry: Any, step: Step[Any], ctx: Any, *, before: JsonMap | None) -> None:
        super()._start(entry, replace(step, before=lambda _ctx: {}), ctx, before=before)


class Permissive(Saga):
    """Lets commands out without a look at the fence."""

    def permit(self, fence: Fence) -> None:
        pass


class Unfenced(MemoryLog):
    """Writes for anybody."""

    def hold(self, fence: Fence) -> Record:
        return self.record(fence.operation)


class Shared(MemoryLog):
    """Lends a node to several operations."""

    def _refuse_other_holder(self, fence: Fence, node: str) -> None:
        pass


class Keyless(MemoryLog):
    """Takes a repeated commit for another one."""

    def append(self, fence: Fence, *, key: str = "", **event: Any) -> StepEvent:
        return super().append(fence, **event)


def blind_steps() -> dict[str, Step[Context]]:
    """The image is written without a look whether it is there."""
    made = simulated.steps()

    def do(ctx: Context) -> JsonMap:
        ctx.command("disk", f"image of {ctx.fence.operation}", "write-image", Going.DO)
        return {}

    return made | {"write-image": replace(made["write-image"], do=do)}


def leaking_steps() -> dict[str, Step[Context]]:
    """An address is given back only if the log says that it was taken."""
    made = simulated.steps()
    free = made["allocate-address"].undo
    assert callable(free)
    undo: Callable[..., JsonMap] = lambda ctx, c: free(ctx, c) if c.outputs else {}  # noqa: E731
    return made | {"allocate-address": replace(made["allocate-address"], undo=undo)}


def found(product: Product) -> Found:
    """The search until the first broken promise, at most `BATCHES` batches."""
    total = Found()
    for number in range(1, BATCHES + 1):
        total.add(search(number, product=product, shrink=False))
        if total.seed is not None:
            break
    return total


def expect(product: Product, promise: str) -> None:
    search_result = found(product)
    assert search_result.seed is not None, f"{search_result.histories} histories and nothing found"
    assert promise in search_result.broken.splitlines()[0], search_result.broken
    assert "scenario" in search_result.broken


@pytest.mark.parametrize(
    ("product", "promise"),
    [
        pytest.param(Product(saga=Forgetful), "the log says", id="no state before"),
        pytest.param(Product(saga=Permissive), "though it was fenced off", id="commands without permission"),
        pytest.param(Product(log=Unfenced), "though it was fenced off", id="a log without a fence"),
        pytest.param(Product(log=Shared), "", id="a lease for two"),
        pytest.param(Product(log=Keyless), "", id="commits doubled"),
        pytest.param(Product(steps=blind_steps), "image writes on", id="a write repeated blindly"),
        pytest.param(Product(steps=leaking_steps), "address is", id="an address leaked"),
    ],
)
def test_a_defective_part_is_found(product: Product, promise: str) -> None:
    expect(product, promise)


def test_unwinding_in_the_wrong_order_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = conductor.unwind_plan
    monkeypatch.setattr(conductor, "unwind_plan", lambda status, target: tuple(reversed(right(status, target))))
    monkeypatch.setattr(engine, "_check_last", lambda _status, _mine: None)
    expect(Product(), "the log says")


def test_a_failed_step_that_is_not_undone_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what succeeded is undone: what failed or is open may have acted all the same."""
    monkeypatch.setattr(
        StepStatus, "stands", property(lambda s: s.acted and s.state == "succeeded" and s.undo != "undone")
    )
    expect(Product(), "stands")


def test_an_end_told_for_another_process_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Saga, "superseded", lambda _saga, _fence, _run: False)
    expect(Product(), "")


def test_a_stage_built_on_a_fallen_pillar_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(_conductor: conductor.Conductor, _number: int) -> str:
        return ""

    monkeypatch.setattr(conductor.Conductor, "_fallen", never)
    expect(Product(), "began before")


def test_stages_undone_from_the_first_one_on_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    upwards = lambda stages, reverse: sorted(stages, reverse=not reverse)  # noqa: E731
    monkeypatch.setattr(conductor, "sorted", upwards, raising=False)
    monkeypatch.setattr(engine, "_check_last", lambda _status, _mine: None)
    expect(Product(), "is undone under")


def test_a_run_believed_for_ever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "BEGIN_S", timedelta(days=365).total_seconds())
    expect(Product(), "not at rest")


_conforms: Callable[[StepLog, Any, str], Saga] = Forgetful
