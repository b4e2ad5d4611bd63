"""Steps on the running host, over SSH."""

from __future__ import annotations

from drivers.baseline import (
    BaselineSpec,
    BaselineState,
    apply_baseline,
    observe_baseline,
    render_baseline,
    restore_baseline,
    verify_baseline,
    verify_clock,
)
from levier.domain.errors import Busy, MalformedReply, OutcomeUnknown, Rejected, Unreachable
from levier.domain.netboot import AgentAction
from levier.domain.operation import JsonMap
from levier.domain.retry import NEVER
from levier.domain.ssh import RemoteHost
from levier.saga.step import Checkpoint, Undo, step
from levier.services.context import NodeContext


def _host(ctx: NodeContext) -> RemoteHost:
    address = str(ctx.outputs("allocate-address")["address"])
    return ctx.host(ctx.services.ssh_target(ctx.site, ctx.name, address))


@step(
    name="boot-host",
    title="Boot the written disk and log in by SSH with the host key known beforehand",
    undo=Undo.NO_EFFECT,
    retry={Unreachable: NEVER},
    needs=("allocate-address", "create-host-key"),
)
def boot_host(ctx: NodeContext) -> JsonMap:
    """The host runs from its disk and its SSH key is the one made for it. Safe to repeat.

    No undo of its own: the undo of `power-on` turns the machine off.
    """
    view = ctx.services.boot_entries.get(ctx.name)
    if view is not None and view.claimed_at is not None:
        ctx.services.boot_entries.instruct(node=ctx.name, by=ctx.fence, action=AgentAction.REBOOT)
    host = _host(ctx)
    _wait_until_up(ctx, host)
    facts = host.facts()
    return {
        "os": facts.os_pretty,
        "kernel": facts.kernel,
        "boot_id": facts.boot_id,
        "machine_id": facts.machine_id,
        "facts": facts.model_dump(mode="json"),
    }


_SILENT = (
    "the image was written and verified: look at the machine's console for what its boot stops at, and whether its "
    "firmware starts from the disk that the image is on"
)
_USELESS = "it answers, but no command comes to its end: look at sshd's log and at the network between (firewall, MTU)"


def _wait_until_up(ctx: NodeContext, host: RemoteHost) -> None:
    """The host answers. Raises Unreachable, never retried: the time is over, and the machine was rebooted once."""
    try:
        host.wait_until_up(timeout_s=ctx.services.patience.host_timeout_s, check=ctx.check)
    except (Unreachable, OutcomeUnknown, Busy, MalformedReply) as error:
        raise Unreachable(
            f"{ctx.name} did not come up from its disk: {error.message}",
            hint=_SILENT if isinstance(error, Unreachable) else _USELESS,
        ) from error


@step(name="render-baseline", title="Render the baseline configuration of this revision", undo=Undo.NO_EFFECT)
def render(ctx: NodeContext) -> JsonMap:
    """The host's configuration is fixed for the rest of the operation, whatever its siblings do. Safe to repeat."""
    spec = ctx.services.baseline_for(ctx.site, ctx.node, revision=ctx.terms.revision)
    return {"spec": spec.model_dump(mode="json"), "files": [file.path for file in render_baseline(spec)]}


def _spec(ctx: NodeContext) -> BaselineSpec:
    return BaselineSpec.model_validate(ctx.outputs("render-baseline")["spec"])


def _baseline_before(ctx: NodeContext) -> JsonMap:
    return {"state": observe_baseline(_host(ctx), _spec(ctx)).model_dump(mode="json")}


def _restore_baseline(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
    """The host has its earlier configuration; a host that no longer answers keeps none, its disk is abandoned next."""
    previous = BaselineState.model_validate(checkpoint.before["state"])
    try:
        return {"restored": list(restore_baseline(_host(ctx), previous))}
    except (Unreachable, OutcomeUnknown) as error:
        return {"restored": [], "note": f"the host does not answer, its disk is abandoned: {error}"}


@step(
    name="apply-baseline",
    title="Apply the baseline configuration",
    undo=_restore_baseline,
    before=_baseline_before,
    needs=("allocate-address", "render-baseline"),
)
def apply(ctx: NodeContext) -> JsonMap:
    """The host has the baseline of the operation's revision. Safe to repeat: a second time changes nothing."""
    spec = _spec(ctx)
    applied = apply_baseline(_host(ctx), spec)
    return applied.model_dump(mode="json", include={"changed", "effects", "refused"})


@step(
    name="verify-host",
    title="Read the host's configuration back",
    undo=Undo.NO_EFFECT,
    needs=("allocate-address", "render-baseline"),
)
def verify_host(ctx: NodeContext) -> JsonMap:
    """The effective configuration is the rendered one, and the clock is right to 5 minutes. Safe to repeat.

    Raises Rejected with each deviation.
    """
    deviations = verify_baseline(_host(ctx), _spec(ctx))
    if deviations:
        raise Rejected(f"{ctx.name} deviates from its revision: " + "; ".join(str(d) for d in deviations))
    try:
        offset_s = verify_clock(_host(ctx), timeout_s=ctx.services.patience.clock_timeout_s, check=ctx.check)
    except Rejected as error:
        raise Rejected(f"{ctx.name}: {error.message}", hint=error.hint) from error
    return {"verified": True, "clock_offset_s": round(offset_s, 1)}
