"""Steps of one component on the hosts that keep its data: its databases, and its users of the message queue."""

from __future__ import annotations

from levier.domain import install_plan
from levier.domain.component import Component, Database, MessageQueueUser
from levier.domain.operation import JsonMap
from levier.domain.ssh import RemoteHost
from levier.saga.step import Checkpoint, step
from levier.services.components.database_presence import Present, missing, question, rights_question, understood
from levier.services.components.databases import (
    database_removal,
    message_queue_script,
    own_virtual_hosts,
    queue_user_removal,
    virtual_host_removal,
)
from levier.services.context import NodeContext, NodeStep

_TIMEOUT_S = 120.0
_MARIADB = "mariadb --batch --skip-column-names"
_USERS = "rabbitmqctl --quiet list_users --no-table-headers"
_VIRTUAL_HOSTS = "rabbitmqctl --quiet list_vhosts --no-table-headers"


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
        words, text = missing(component.databases, _present(ctx, component))
        if words:
            _sql(ctx.own_host(), ctx.cloud.clear(text))
        return {"changed": list(words)}

    return do


def _present(ctx: NodeContext, component: Component) -> Present:
    """What there is of the component's databases and their users."""
    host, own = ctx.own_host(), component.databases
    answer = _sql(host, ctx.cloud.clear(question(own)))
    return understood(answer + _sql(host, rights_question(understood(answer, own))), own)


def _removal(database: Database, component: Component, *, kept: Checkpoint) -> str:
    """A user who owns another database that was there before stays."""
    others = {each.user for each in component.databases if each.name in kept.before.get("present", ())}
    text = database_removal(database)
    return text if database.user not in others else text.splitlines(keepends=True)[0]


def queue_users(component: Component) -> NodeStep:
    """The component's users of the message queue exist, on the host of the queue."""

    def before(ctx: NodeContext) -> JsonMap:
        host = ctx.own_host()
        users = _listed(host, _USERS) & {each.user for each in component.message_queue}
        own = own_virtual_hosts(component.message_queue)
        return {"present": sorted(users), "virtual_hosts": sorted(_listed(host, _VIRTUAL_HOSTS) & own) if own else []}

    def remove(ctx: NodeContext, checkpoint: Checkpoint) -> JsonMap:
        """Users and virtual hosts that were not there before are gone."""
        users = [each.user for each in component.message_queue if each.user not in checkpoint.before.get("present", ())]
        own = own_virtual_hosts(component.message_queue)
        # A checkpoint of a Levier that did not look is no word that there was none.
        hosts = sorted(own - set(checkpoint.before.get("virtual_hosts", own)))
        for removal in (*map(queue_user_removal, users), *map(virtual_host_removal, hosts)):
            ctx.own_host().run(removal, timeout_s=_TIMEOUT_S)
        return {"removed": [*users, *(f"virtual host {each}" for each in hosts)]}

    @step(
        name=install_plan.message_queue(component.name),
        title=f"Message queue of {component.name}",
        undo=remove,
        before=before,
    )
    def do(ctx: NodeContext) -> JsonMap:
        ctx.cloud.ensure_secrets(component)
        return {"changed": [words for each in component.message_queue for words in _make_user(ctx, each)]}

    return do


def _listed(host: RemoteHost, command: str) -> set[str]:
    return {line.split("\t")[0] for line in host.run(command, timeout_s=_TIMEOUT_S).stdout.splitlines()}


def _make_user(ctx: NodeContext, user: MessageQueueUser) -> list[str]:
    """The user is as he is to be; what was changed, in words."""
    script = ctx.cloud.clear(message_queue_script(user))
    return ctx.own_host().run("exec sh", stdin=script.encode(), timeout_s=_TIMEOUT_S).stdout.splitlines()
