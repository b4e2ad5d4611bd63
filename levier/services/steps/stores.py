"""Steps of one component on the hosts that keep its data: its databases, and its users of the message queue."""

from __future__ import annotations

from levier.domain import install_plan
from levier.domain.component import Component, Database, MessageQueueUser
from levier.domain.operation import JsonMap
from levier.domain.ssh import RemoteHost
from levier.saga.step import Checkpoint, step
from levier.services.components.databases import (
    database_removal,
    database_statements,
    message_queue_removal,
    message_queue_script,
)
from levier.services.context import NodeContext, NodeStep

_TIMEOUT_S = 120.0
_MARIADB = "mariadb --batch --skip-column-names"
_QUEUE_USERS = "rabbitmqctl --quiet list_users --no-table-headers"


def store_steps(component: Component) -> tuple[NodeStep, ...]:
    """The steps of a component on hosts that are not its own."""
    steps = []
    if component.databases:
        steps.append(databases(component))
    if component.message_queue:
        steps.append(queue_users(component))
    return tuple(steps)


def _sql(host: RemoteHost, text: str) -> str:
    """What the statements answer. They go over standard input: no list of processes shows them."""
    return host.run(_MARIADB, stdin=text.encode(), timeout_s=_TIMEOUT_S).stdout


def databases(component: Component) -> NodeStep:
    """The component's databases and their users exist, on the host of the databases."""

    def before(ctx: NodeContext) -> JsonMap:
        present = _sql(ctx.own_host(), "SHOW DATABASES;\n").split()
        return {"present": sorted({each.name for each in component.databases} & set(present))}

    def remove(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        """The databases that were not there before are gone, and what is in them."""
        new = [each for each in component.databases if each.name not in checkpoint.before.get("present", ())]
        _sql(ctx.own_host(), "".join(_removal(each, component, kept=checkpoint) for each in new))
        return {"removed": [each.name for each in new]}

    @step(
        name=install_plan.database(component.name),
        title=f"Databases of {component.name}",
        undo=remove,
        before=before,
    )
    def do(ctx: NodeContext) -> JsonMap:
        ctx.cloud.ensure_secrets(component)
        present = set(_sql(ctx.own_host(), "SHOW DATABASES;\n").split())
        text = "".join(database_statements(each) for each in component.databases)
        _sql(ctx.own_host(), ctx.cloud.clear(text))
        return {"changed": [each.name for each in component.databases if each.name not in present]}

    return do


def _removal(database: Database, component: Component, *, kept: Checkpoint) -> str:
    """A user who owns another database that was there before stays."""
    others = {each.user for each in component.databases if each.name in kept.before.get("present", ())}
    text = database_removal(database)
    return text if database.user not in others else text.splitlines(keepends=True)[0]


def queue_users(component: Component) -> NodeStep:
    """The component's users of the message queue exist, on the host of the queue."""

    def before(ctx: NodeContext) -> JsonMap:
        return {"present": sorted(_users(ctx.own_host()) & {each.user for each in component.message_queue})}

    def remove(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        new = [each for each in component.message_queue if each.user not in checkpoint.before.get("present", ())]
        for each in new:
            ctx.own_host().run(message_queue_removal(each), timeout_s=_TIMEOUT_S)
        return {"removed": [each.user for each in new]}

    @step(
        name=install_plan.message_queue(component.name),
        title=f"Message queue of {component.name}",
        undo=remove,
        before=before,
    )
    def do(ctx: NodeContext) -> JsonMap:
        ctx.cloud.ensure_secrets(component)
        present = _users(ctx.own_host())
        for each in component.message_queue:
            _make_user(ctx, each)
        return {"changed": [each.user for each in component.message_queue if each.user not in present]}

    return do


def _users(host: RemoteHost) -> set[str]:
    return {line.split("\t")[0] for line in host.run(_QUEUE_USERS, timeout_s=_TIMEOUT_S).stdout.splitlines()}


def _make_user(ctx: NodeContext, user: MessageQueueUser) -> None:
    script = ctx.cloud.clear(message_queue_script(user))
    ctx.own_host().run("exec sh", stdin=script.encode(), timeout_s=_TIMEOUT_S)
