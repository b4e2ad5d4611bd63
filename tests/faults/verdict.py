"""What is right after a fault: Levier's own words on one side, the lab's ledger on the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from levier.domain.node import NodeState
from levier.domain.operation import OperationState, OperationStatus
from levier.services.registry import Services
from tests.integration.e2e.ledger import Page

DEVICES = {"expand": ["pxe", "disk"], "inspect": ["pxe"]}


@dataclass(frozen=True, slots=True)
class Sight:
    """Everything there is to see of one node after an operation."""

    services: Services
    node: str
    status: OperationStatus
    power: str
    """What the lab says of the chassis now."""
    page: Page
    """The lab's ledger of the node since the operation began."""


def never_right(sight: Sight) -> Iterator[str]:
    """What is wrong whatever happened: a destructive command that was repeated."""
    page = sight.page
    if page.powered_on() > 1:
        yield f"powered on {page.powered_on()} times"
    if page.image_writes() > 1:
        yield f"{page.image_writes()} images written"
    if page.booted_from() != DEVICES[sight.status.kind][: len(page.booted_from())]:
        yield f"booted from {' → '.join(page.booted_from())}"
    sent = [e["detail"].get("action") for e in page.kind("bmc-command") if e["detail"]["name"] == "Chassis Control"]
    if any(sent.count(action) > 1 for action in ("on", "cycle", "reset")):
        yield f"chassis control {', '.join(map(str, sent))}"


def not_done(sight: Sight) -> Iterator[str]:
    """In what the node is not as it is after a success."""
    kind, view = sight.status.kind, _record(sight)
    wanted = {"expand": ("on", NodeState.READY), "inspect": ("off", NodeState.AVAILABLE)}[kind]
    if (sight.power, view["state"]) != wanted:
        yield f"{view['state']} and {sight.power} instead of {wanted[1]} and {wanted[0]}"
    if sight.page.booted_from() != DEVICES[kind]:
        yield f"booted from {' → '.join(sight.page.booted_from()) or 'nothing'}"
    if sight.page.image_writes() != (kind == "expand"):
        yield f"{sight.page.image_writes()} images written"
    if bool(view["address"]) != (kind == "expand"):
        yield f"address {view['address']}"
    yield from _left_over(sight)


def not_undone(sight: Sight) -> Iterator[str]:
    """In what the node is not as it was before the operation."""
    view = _record(sight)
    if (sight.power, view["address"]) != ("off", None):
        yield f"{sight.power}, address {view['address']}"
    if view["state"] not in (NodeState.ENROLLED, NodeState.AVAILABLE):
        yield f"state {view['state']}"
    if sight.status.stands:
        yield f"stands: {', '.join(s.step for s in sight.status.stands)}"
    yield from _left_over(sight)


def not_reported(status: OperationStatus, node: str, step: str) -> Iterator[str]:
    """What an operation that needs an operator does not say: both errors, and everything that stands."""
    failed = status.step(step, node)
    if failed.error is None or failed.undo_error is None:
        yield "one of the two errors is missing"
    elif not all(e.message in (status.error or "") for e in (failed.error, failed.undo_error)):
        yield f"the operation's error tells not both: {status.error}"
    acted = [s.step for s in status.steps if s.acted and s.undo != "undone"]
    listed = [s.step for s in status.stands]
    if sorted(acted) != sorted(listed) or step not in listed:
        yield f"stands {listed}, acted {acted}"


def _left_over(sight: Sight) -> Iterator[str]:
    if sight.services.boot_entries.get(sight.node) is not None:
        yield "a boot entry is left"
    if _record(sight)["operation"]:
        yield f"held by {_record(sight)['operation']}"


def _record(sight: Sight) -> dict[str, object]:
    return next(n for n in sight.services.inventory.nodes() if n["name"] == sight.node)


def words(state: OperationState, *, resumed: bool) -> str:
    """The verdict in the table."""
    if state is OperationState.SUCCEEDED:
        return "resumed" if resumed else "went on"
    if state is OperationState.NEEDS_OPERATOR:
        return "named, then undone"
    return "undone on" if resumed else "undone"
