"""Steps of one component on one host: configured, prepared, started. Each factory gives the step of one component."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from typing import Any, Literal

from drivers.bundle.host import current, ensure_current
from drivers.host import (
    UnitState,
    complaints,
    ensure_running,
    forget,
    keep,
    listeners,
    observe_units,
    put,
    put_back,
    put_units_back,
)
from drivers.host.configuration import KEPT
from levier.domain import install_plan
from levier.domain.component import Action, Argv, Component, Health, HttpCheck
from levier.domain.errors import Busy, Conflict, Rejected
from levier.domain.operation import JsonMap
from levier.domain.ssh import CommandResult, RemoteHost
from levier.saga.step import Checkpoint, Undo, step
from levier.services.components import RenderedComponent, shell_script
from levier.services.components.databases import database_dump, database_restore, schema_version
from levier.services.context import NodeContext, NodeStep
from levier.services.polling import wait_on
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

    def put_configuration_back(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        """The host has its earlier configuration."""
        before = checkpoint.before.get("link")
        if component.software.bundle:
            ensure_current(ctx.own_host(), component.name, None if before is None else str(before))
        return {"changed": list(put_back(ctx.own_host(), name=_kept(ctx, component)))}

    @step(
        name=install_plan.configure(component.name),
        title=f"Configure {component.name}",
        undo=unless_lost(put_configuration_back),
        before=lambda ctx: {"link": current(ctx.own_host(), component.name)} if component.software.bundle else {},
        needs=(install_plan.UNPACK,) if component.software.bundle else (),
    )
    def do(ctx: NodeContext) -> JsonMap:
        rendered = _rendered(ctx, component)
        wanted, host = ctx.cloud.configuration(rendered, ctx.cloud.view(ctx.site)), ctx.own_host()
        keep(host, wanted, name=_kept(ctx, component))
        changed = []
        if component.software.bundle:
            identity = str(ctx.outputs(install_plan.UNPACK)["identity"])
            before = ensure_current(host, component.name, identity)
            changed += [f"link to {identity}"] if before != identity else []
        return {"changed": [*changed, *put(host, wanted)], "files": [file.path for file in rendered.files]}

    return do


# --- actions ---------------------------------------------------------------------------------------------------------


def act(component: Component, action: Action) -> NodeStep:
    """What the action promises is true; the databases it changes were dumped before."""

    @step(
        name=install_plan.act(component.name, action.name),
        title=f"{component.name}: {action.summary}",
        undo=_undo_of(component, action),
    )
    def do(ctx: NodeContext) -> JsonMap:
        wanted = _action(_rendered(ctx, component), action.name)
        host = ctx.own_host()
        if wanted.done_when is not None and run_command(host, wanted, wanted.done_when).exit_status == 0:
            return {"changed": []}
        schemas = _schemas(ctx, wanted)
        for database in wanted.dump_before:
            _dump(ctx, component, wanted, database)
        result = run_command(host, wanted, wanted.command)
        if result.exit_status:
            _fail(ctx, component, wanted, result)
        return _said(wanted, schemas, _schemas(ctx, wanted)) | {"seconds": round(result.duration_s, 1)}

    return do


def _said(action: Action, before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, Any]:
    """What the action changed: schemas that have another version now. Of other commands that may be repeated nobody
    knows whether they changed anything: those say nothing."""
    if action.dump_before:
        return {"changed": [f"schema of {name}" for name in after if after[name] != before[name]]}
    return {} if action.repeatable else {"changed": [action.name]}


def _schemas(ctx: NodeContext, action: Action) -> dict[str, str]:
    """Database → the version of its schema as alembic notes it; empty when there is none yet."""
    if not action.dump_before:
        return {}
    with ctx.host_of(install_plan.DATABASES) as host:
        return {name: host.run(schema_version(name), timeout_s=_HEALTH_TIMEOUT_S).stdout for name in action.dump_before}


def _action(rendered: RenderedComponent, name: str) -> Action:
    return next(each for each in rendered.actions if each.name == name)


def _fail(ctx: NodeContext, component: Component, action: Action, result: CommandResult) -> None:
    kind = Busy if result.exit_status in action.retry_statuses else Rejected
    raise kind(
        f"{component.name} on {ctx.name}: {action.name} ended with status {result.exit_status}: {last_words(result)}",
        hint=f"on {ctx.name}: {shlex.join(action.command)}",
    )


def _dump_file(ctx: NodeContext, component: Component, action: Action, database: str) -> str:
    return f"{KEPT}/{ctx.operation}/dumps/{component.name}-{action.name}-{database}.sql"


def _dump(ctx: NodeContext, component: Component, action: Action, database: str) -> None:
    """The dump of before the first attempt is where the databases are. A later attempt leaves it as it is."""
    file = _dump_file(ctx, component, action, database)
    with ctx.host_of(install_plan.DATABASES) as host:
        script = f"[ -e {shlex.quote(file)} ] || {{ {database_dump(database, file)} }}"
        host.run(script, timeout_s=action.timeout_s)


def _undo_of(
    component: Component, action: Action
) -> Callable[[NodeContext, Checkpoint], JsonMap] | Literal[Undo.NO_EFFECT, Undo.IRREVERSIBLE]:
    if action.undo is None and not action.dump_before:
        return Undo.IRREVERSIBLE if action.irreversible else Undo.NO_EFFECT

    def undo(ctx: NodeContext, _checkpoint: Checkpoint) -> JsonMap:
        wanted = _action(_rendered(ctx, component), action.name)
        if wanted.undo is not None:
            result = run_command(ctx.own_host(), wanted, wanted.undo)
            if result.exit_status:
                _fail(ctx, component, wanted, result)
        restored = [name for name in wanted.dump_before if _restore(ctx, component, wanted, name)]
        return {"restored": restored}

    return undo


def _restore(ctx: NodeContext, component: Component, action: Action, database: str) -> bool:
    """The database is as it was dumped, and the dump is gone; False when there is none: the action never began."""
    file = _dump_file(ctx, component, action, database)
    with ctx.host_of(install_plan.DATABASES) as host:
        complete = host.run(f"test -e {shlex.quote(file)}", check=False).exit_status == 0
        if complete:
            host.run(database_restore(file), timeout_s=action.timeout_s)
        forget(host, file)
    return complete


# --- start -----------------------------------------------------------------------------------------------------------


def start(component: Component) -> NodeStep:
    """The component's units run with the configuration of now, and it is healthy."""

    def before(ctx: NodeContext) -> JsonMap:
        states = observe_units(ctx.own_host(), [each.name for each in component.units])
        return {"units": [state.model_dump(mode="json") for state in states]}

    def put_back_units(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        states = [UnitState.model_validate(each) for each in checkpoint.before.get("units", ())]
        return {"changed": list(put_units_back(ctx.own_host(), states))}

    @step(
        name=install_plan.start(component.name),
        title=f"Start {component.name}",
        undo=unless_lost(put_back_units),
        before=before,
    )
    def do(ctx: NodeContext) -> JsonMap:
        rendered, host = _rendered(ctx, component), ctx.own_host()
        files = [file.path for file in rendered.files if file.restarts]
        _refuse_taken_ports(ctx, component, host)
        started = ensure_running(host, rendered.units, files=files)
        return {"changed": list(started), "healthy_after_s": _wait_until_healthy(ctx, host, rendered)}

    return do


def _refuse_taken_ports(ctx: NodeContext, component: Component, host: RemoteHost) -> None:
    """Nobody else listens where the component will. Raises Conflict naming the port and the program.

    Of a component that runs already the ports are taken by itself.
    """
    ports = _rendered(ctx, component).ports
    if not ports or any(s.active for s in observe_units(host, [u.name for u in component.units])):
        return
    taken = listeners(host, ports)
    if taken:
        words = ", ".join(f"port {port} is taken by {program}" for port, program in taken.items())
        raise Conflict(
            f"{component.name} cannot be started on {ctx.name}: {words}",
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
