"""Steps shaped like the real ones, on the simulated world: observe, return if it is so already, command."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from levier.domain.errors import Conflict
from levier.domain.operation import Fence, JsonMap
from levier.saga.engine import Saga
from levier.saga.step import Checkpoint, Step, StepRegistry, Undo
from tests.simulation.scenario import Going
from tests.simulation.world import World


@dataclass(frozen=True)
class Context:
    """A step's view: one node, by one worker."""

    world: World
    saga: Saga
    fence: Fence
    node: str
    stored: Callable[[Callable[[], str]], str]
    """Runs a transaction of a store beside the log, patiently and under the fence."""

    def ensure(self, facet: str, value: str, step: str, going: Going) -> None:
        """The facet has the value; a command goes out only if it has not."""
        if self.world.look(self.node, facet, step, going) != value:
            self.command(facet, value, step, going)

    def command(self, facet: str, value: str, step: str, going: Going) -> None:
        """The command goes out, whatever the facet is."""
        self.world.command(
            self.fence, self.node, facet, value, step=step, going=going, permit=lambda: self.saga.permit(self.fence)
        )


def _acquire(ctx: Context) -> JsonMap:
    return {"generation": ctx.saga.acquire_lease(ctx.fence, ctx.node).generation}


def _kept(_ctx: Context, _checkpoint: Checkpoint) -> JsonMap:
    return {"released": "with the operation"}


def _allocate(ctx: Context) -> JsonMap:
    address = ctx.stored(lambda: ctx.world.allocate(ctx.fence, ctx.node, ctx.fence.operation))
    ctx.world.answered(ctx.node, "allocate-address", Going.DO)
    return {"address": address}


def _free(ctx: Context, _checkpoint: Checkpoint) -> JsonMap:
    def free() -> str:
        if ctx.world.nodes[ctx.node]["address"].endswith(f" of {ctx.fence.operation}"):
            ctx.world.nodes[ctx.node]["address"] = ""
            ctx.world.kernel.tell(ctx.fence.worker, f"{ctx.node} address := -")
        return ""

    return {"freed": ctx.stored(free)}


def _verify(ctx: Context) -> JsonMap:
    return {"power": ctx.world.look(ctx.node, "power", "verify-bmc", Going.DO)}


def _setting(name: str, facet: str, value: str, *, back: str | None = None, only_from: str = "") -> Step[Context]:
    """A step that sets a facet (from one value only); its undo brings back what was before, or `back`."""

    def before(ctx: Context) -> JsonMap:
        return {facet: ctx.world.look(ctx.node, facet, name, Going.BEFORE)}

    def do(ctx: Context) -> JsonMap:
        wanted = value.format(operation=ctx.fence.operation)
        present = ctx.world.nodes[ctx.node][facet]
        if only_from and present not in (only_from, wanted):
            raise Conflict(f"{ctx.node}: {facet} is {present}, not {only_from}", hint="roll that back first")
        ctx.ensure(facet, wanted, name, Going.DO)
        return {facet: value}

    def undo(ctx: Context, checkpoint: Checkpoint) -> JsonMap:
        ctx.ensure(facet, str(checkpoint.before.get(facet, "")) if back is None else back, name, Going.UNDO)
        return {}

    return Step(name=name, title=name, do=do, undo=undo, before=before if back is None else _nothing)


def _nothing(_ctx: Context) -> JsonMap:
    return {}


def _withdraw(ctx: Context) -> JsonMap:
    ctx.ensure("entry", "", "withdraw-entry", Going.DO)
    return {}


def _wipe(ctx: Context) -> JsonMap:
    ctx.ensure("tpm", "empty", "wipe-tpm", Going.DO)
    return {}


def steps() -> dict[str, Step[Context]]:
    """Every step by name."""
    made = (
        Step(name="acquire-lease", title="", do=_acquire, undo=_kept, needs_lease=False),
        Step(name="verify-bmc", title="", do=_verify, undo=Undo.NO_EFFECT),
        _setting("mark-deploying", "record", "deploying by {operation}", only_from="enrolled"),
        Step(name="allocate-address", title="", do=_allocate, undo=_free),
        _setting("create-key", "key", "of {operation}"),
        _setting("power-off", "power", "off"),
        _setting("publish-entry", "entry", "{operation}"),
        _setting("set-boot", "boot", "network"),
        _setting("power-on", "power", "on"),
        _setting("write-image", "disk", "image of {operation}", back="nobody's"),
        _setting("boot-host", "host", "{operation}"),
        Step(name="withdraw-entry", title="", do=_withdraw, undo=Undo.NO_EFFECT),
        Step(name="wipe-tpm", title="", do=_wipe, undo=Undo.IRREVERSIBLE),
        _setting("configure", "config", "of {operation}"),
        _setting("mark-ready", "record", "ready"),
    )
    return {step.name: step for step in made}


def registry(of: dict[str, Step[Context]]) -> StepRegistry:
    """The steps, to be looked up."""
    found = StepRegistry()
    found.add(*of.values())
    return found
