"""An undo on a host that does not answer: given up only where the operation wrote the host's disk itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from levier.domain.errors import OutcomeUnknown, Rejected, Unreachable
from levier.domain.operation import JsonMap
from levier.saga.step import Checkpoint
from levier.services.context import NodeContext
from levier.services.steps.lost import unless_lost

CHECKPOINT = Checkpoint(before={"link": "old"}, outputs=None, attempts=1)


def context(**recorded: JsonMap) -> NodeContext:
    """A node in an operation of which these steps have recorded something."""
    outputs = {name.replace("_", "-"): value for name, value in recorded.items()}
    return cast(NodeContext, SimpleNamespace(outputs_if_any=lambda step: outputs.get(step, {})))


def failing(error: Exception) -> Any:
    def undo(_ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
        raise error

    return undo


def test_an_undo_that_works_is_left_alone() -> None:
    seen: list[object] = []

    def undo(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        seen.extend([ctx, checkpoint])
        return {"changed": ["link"]}

    ctx = context(write_image={"sha256": "1"})
    assert unless_lost(undo)(ctx, CHECKPOINT) == {"changed": ["link"]}
    assert seen == [ctx, CHECKPOINT]


@pytest.mark.parametrize("error", [Unreachable("no route", hint="look"), OutcomeUnknown("cut off", hint="look")])
def test_a_host_that_this_operation_wrote_is_given_up_and_the_log_says_so(error: Exception) -> None:
    said = unless_lost(failing(error))(context(write_image={"sha256": "1"}), CHECKPOINT)
    assert said["changed"] == []
    assert str(error) in said["note"]


@pytest.mark.parametrize("error", [Unreachable("no route", hint="look"), OutcomeUnknown("cut off", hint="look")])
def test_what_stands_on_a_host_that_was_there_before_is_not_forgotten(error: Exception) -> None:
    with pytest.raises(type(error)):
        unless_lost(failing(error))(context(reach_host={"os": "Debian"}), CHECKPOINT)


def test_a_host_that_answers_and_refuses_is_not_lost() -> None:
    with pytest.raises(Rejected):
        unless_lost(failing(Rejected("busy", hint="look")))(context(write_image={"sha256": "1"}), CHECKPOINT)
