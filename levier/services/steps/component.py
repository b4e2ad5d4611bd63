"""Steps of one component on one host: configured, prepared, started. Each factory gives the step of one component."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Literal

from drivers.bundle.host import current, ensure_current, link
from drivers.host import (
    UnitState,
    complaints,
    ensure_running,
    forget_unchanged,
    keep,
    listeners,
    observe_units,
    put,
    put_back,
    run_again,
    stop_again,
)
from levier.domain import install_plan
from levier.domain.component import Action, Argv, Component, Health, HttpCheck
from levier.domain.errors import Busy, Conflict, Rejected
from levier.domain.operation import JsonMap
from levier.domain.ssh import CommandResult, RemoteHost
from levier.saga.step import Checkpoint, Undo, step
from levier.services.components import RenderedComponent, shell_script
from levier.services.context import NodeContext, NodeStep
from levier.services.polling import wait_on
from levier.services.steps.dumps import dumps_of
from levier.services.steps.host_command import last_words, run_command
from levier.services.steps.lost import unless_lost

_HEALTH_TIMEOUT_S = 60.0
_ASK = (
    "import sys, urllib.request, urllib.error\n"
    "try: print(urllib.request.urlopen(sys.argv[1], timeout=10).status)\n"
    "except urllib.error.HTTPError as error: print(error.code)\n"
)
"""Prints the status of the answer; a redirection is followed."""


def component_steps(component: Component) -> tuple[NodeStep, ...]:
    """Every step there is of a component."""
    return (configure(component), *(act(component, action) for action in component.actions), start(component))


def _rendered(ctx: NodeContext, component: Component) -> RenderedComponent:
    return ctx.cloud.rendered(ctx.site, ctx.name, component.name)


def _kept(ctx: NodeContext, component: Component) -> str:
    return f"{ctx.operation}/{component.name}"


# --- configure -------------------------------------------------------------------------------------------------------


def configure(component: Component) -> NodeStep:
    """Users, directories and files of the component are in place, and it is linked to its release."""

    def before(ctx: NodeContext) -> JsonMap:
        link_before = {"link": current(ctx.own_host(), component.name)} if component.software.bundle else {}
        return {**link_before, **_units(ctx, component)}

    def put_configuration_back(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        """The host has its earlier configuration, and what ran before runs with it."""
        host, earlier = ctx.own_host(), checkpoint.before.get("link")
        if component.software.bundle:
            ensure_current(host, component.name, None if earlier is None else str(earlier))
        changed = put_back(host, name=_kept(ctx, component))
        started = run_again(host, _states(checkpoint), files=_files(_rendered(ctx, component), component))
        return {"changed": [*changed, *started]}

    @step(
        name=install_plan.configure(component.name),
        title=f"Configure {component.name}",
        undo=unless_lost(put_configuration_back),
        before=before,
        needs=(install_plan.UNPACK,) if component.software.bundle else (),
    )
    def do(ctx: NodeContext) -> JsonMap:
        rendered = _rendered(ctx, component)
        wanted, host = ctx.cloud.configuration(rendered, ctx.cloud.view(ctx.site)), ctx.own_host()
        keep(host, wanted, name=_kept(ctx, component))
        changed = []
        if component.software.bundle:
            identity = str(ctx.outputs(install_plan.UNPACK)["identity"])
            turned = ensure_current(host, component.name, identity) != identity
            changed += [f"link to {identity}"] if turned else []
        changed += put(host, wanted)
        forget_unchanged(host, name=_kept(ctx, component))
        ctx.cloud.keep_rendered(rendered, revision=ctx.terms.revision, fence=ctx.fence)
        return {"changed": changed, "files": [file.path for file in rendered.files]}

    return do


def _units(ctx: NodeContext, component: Component) -> JsonMap:
    """How the component's units stand, for a checkpoint."""
    states = observe_units(ctx.own_host(), [each.name for each in component.units])
    return {"units": [state.model_dump(mode="json") for state in states]}


def _states(checkpoint: Checkpoint) -> list[UnitState]:
    return [UnitState.model_validate(each) for each in checkpoint.before.get("units", ())]


def _files(rendered: RenderedComponent, component: Component) -> list[str]:
    """Those that the component's programs read once, when they start: the link to their release is one."""
    links = [link(component.name)] if component.software.bundle else []
    return [*(file.path for file in rendered.files if file.restarts), *links]


# --- actions ---------------------------------------------------------------------------------------------------------


def act(component: Component, action: Action) -> NodeStep:
    """What the action promises is true; the databases it changes were dumped before."""

    @step(
        name=install_plan.act(component.name, action.name),
        title=f"{component.name}: {action.summary}",
        undo=_undo_of(component, action),
    )
    def do(ctx: NodeContext) -> JsonMap:
        wanted, lock = _action(_rendered(ctx, component), action.name), _lock(component, action)
        host = ctx.own_host()
        _wait_until_ended(host, wanted, lock)
        if wanted.done_when is not None and run_command(host, wanted, wanted.done_when).exit_status == 0:
            return {"changed": []}
        with dumps_of(ctx, component, wanted) as dumps:
            dumps.make()
            result = run_command(host, wanted, wanted.command, lock=lock)
            if result.exit_status:
                _fail(ctx, component, wanted, result)
            return {**_said(wanted, dumps.forget_unchanged()), "seconds": round(result.duration_s, 1)}

    return do


def _lock(component: Component, action: Action) -> str:
    return f"/run/levier-{component.name}-{action.name}.lock"


def _wait_until_ended(host: RemoteHost, action: Action, lock: str) -> None:
    """The action's command does not run: that of a worker that died goes on until it ends, or its time is over."""
    host.run(f"exec flock {shlex.quote(lock)} true", timeout_s=action.timeout_s)


def _said(action: Action, schemas: list[str]) -> JsonMap:
    """What the action changed: schemas. Of other commands that may be repeated nobody knows whether they changed
    anything: those say nothing."""
    if action.dump_before:
        return {"changed": [f"schema of {name}" for name in schemas]}
    return {} if action.repeatable else {"changed": [action.name]}


def _action(rendered: RenderedComponent, name: str) -> Action:
    return next(each for each in rendered.actions if each.name == name)


def _fail(ctx: NodeContext, component: Component, action: Action, result: CommandResult) -> None:
    kind = Busy if result.exit_status in action.retry_statuses else Rejected
    raise kind(
        f"{component.name} on {ctx.name}: {action.name} ended with status {result.exit_status}: {last_words(result)}",
        hint=f"on {ctx.name}: {shlex.join(action.command)}",
    )


def _undo_of(
    component: Component, action: Action
) -> Callable[[NodeContext, Checkpoint], JsonMap] | Literal[Undo.NO_EFFECT, Undo.IRREVERSIBLE]:
    if action.undo is None and not action.dump_before:
        return Undo.IRREVERSIBLE if action.irreversible else Undo.NO_EFFECT

    def undo(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
        wanted, lock = _action(_rendered(ctx, component), action.name), _lock(component, action)
        _wait_until_ended(ctx.own_host(), wanted, lock)
        if wanted.undo is not None:
            result = run_command(ctx.own_host(), wanted, wanted.undo, lock=lock)
            if result.exit_status:
                _fail(ctx, component, wanted, result)
        with dumps_of(ctx, component, wanted) as dumps:
            return {"restored": dumps.restore()}

    return undo


# --- start -----------------------------------------------------------------------------------------------------------


def start(component: Component) -> NodeStep:
    """The component's units run with the configuration of now, and it is healthy."""

    def stop_units(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        """What did not run before does not, nor what runs with what is undone next: that is started again then."""
        return {"changed": list(stop_again(ctx.own_host(), _states(checkpoint)))}

    @step(
        name=install_plan.start(component.name),
        title=f"Start {component.name}",
        undo=unless_lost(stop_units),
        before=lambda ctx: _units(ctx, component),
    )
    def do(ctx: NodeContext) -> JsonMap:
        rendered, host = _rendered(ctx, component), ctx.own_host()
        _refuse_taken_ports(ctx, host, rendered)
        started = ensure_running(host, rendered.units, files=_files(rendered, component), steady=rendered.steady_units)
        return {"changed": list(started), "healthy_after_s": _wait_until_healthy(ctx, host, rendered)}

    return do


def _refuse_taken_ports(ctx: NodeContext, host: RemoteHost, rendered: RenderedComponent) -> None:
    """Nobody else listens where the component does, or will. Raises Conflict naming the port and the program."""
    if not rendered.ports:
        return
    taken = listeners(host, rendered.ports, besides=rendered.units)
    if taken:
        words = ", ".join(f"port {port} is taken by {program}" for port, program in taken.items())
        raise Conflict(
            f"{rendered.component} cannot be started on {ctx.name}: {words}",
            hint=f"end that program on {ctx.name} (ss -ltnp shows it), then resume the operation",
        )


def _wait_until_healthy(ctx: NodeContext, host: RemoteHost, rendered: RenderedComponent) -> float:
    """Seconds until the component was healthy. Raises Rejected with what it said last. A slow host has longer."""
    health = rendered.health or Health()
    seen = [""]

    def look() -> bool:
        healthy, seen[0] = _healthy(host, rendered)
        return healthy

    waited = wait_on(host, look, timeout_s=health.within_s, check=ctx.check)
    if waited.seconds is None:
        said = f"; {complaints(host, rendered.units)}" if rendered.units else ""
        raise Rejected(
            f"{rendered.component} on {ctx.name} is not healthy after {waited.limit_s:.0f} s: {seen[0]}{said}",
            hint=f"on {ctx.name}: journalctl {' '.join(f'-u {unit}' for unit in rendered.units)}".rstrip(),
        )
    return round(waited.seconds, 1)


def _healthy(host: RemoteHost, rendered: RenderedComponent) -> tuple[bool, str]:
    """Whether all its units are active and every check of it holds; else the first thing that is not so."""
    states = observe_units(host, rendered.units) if rendered.units else ()
    if resting := [state.name for state in states if not state.active]:
        return False, f"{', '.join(resting)} {'is' if len(resting) == 1 else 'are'} not active"
    health = rendered.health or Health()
    if health.http is not None:
        healthy, said = _answers(host, health.http)
        if not healthy:
            return False, said
    return (True, "") if health.command is None else _passes(host, health, health.command)


def _passes(host: RemoteHost, health: Health, command: Argv) -> tuple[bool, str]:
    script = shell_script(command, user=health.user, environment_file=health.environment_file)
    if health.expect is not None:
        script = f"({script}) | grep -E -- {shlex.quote(health.expect)}"
    result = host.run(script, timeout_s=_HEALTH_TIMEOUT_S, check=False)
    return result.exit_status == 0, f"its check ended with status {result.exit_status}: {last_words(result)}"


def _answers(host: RemoteHost, check: HttpCheck) -> tuple[bool, str]:
    command = f"exec python3 -I -c {shlex.quote(_ASK)} {shlex.quote(check.url)}"
    result = host.run(command, timeout_s=_HEALTH_TIMEOUT_S, check=False)
    status = result.stdout.strip()
    if result.exit_status or not status.isdigit():
        return False, f"{check.url} does not answer: {result.stderr.strip()[-200:]}"
    return int(status) in check.statuses, f"{check.url} answers {status}"
