"""The names a component's templates may use; docs/components.md lists them for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import UUID, uuid5

from levier.domain.component import Component, Database, MessageQueueUser
from levier.domain.component_placement import Components, component_named
from levier.domain.errors import InvalidRequest
from levier.domain.release import ROOT
from levier.services.components.catalog import endpoint_url
from levier.services.components.secret_references import reference
from levier.services.components.view import HostView, SiteView

ETC = "/etc/levier"
CURRENT = f"{ROOT}/current"
MEMCACHED_PORT = 11211
RABBITMQ_PORT = 5672
_NAMESPACE = UUID("6c657669-6572-4e61-8d65-737061636500")


def _fail(message: str) -> NoReturn:
    """Rendering ends: what a template was asked for cannot be."""
    raise InvalidRequest(message, hint="correct the site file, then apply it")


def template_names(
    component: Component, *, components: Components, view: SiteView, host: HostView, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything a template of `component` on `host` may use."""
    reach = _Reach(component, components, view)
    return {
        "component": component,
        "components": components,
        "host": host,
        "site": view,
        "settings": settings,
        "etc": f"{ETC}/{component.name}",
        "current": f"{CURRENT}/{component.name}",
        "bin": f"{CURRENT}/{component.name}/bin",
        "secret": reach.secret,
        "hosts_with": view.hosts_with,
        "address_of": reach.address_of,
        "database_url": reach.database_url,
        "message_queue_url": reach.message_queue_url,
        "message_queue_template": reach.message_queue_template,
        "memcached_servers": reach.memcached_servers,
        "endpoint": reach.endpoint,
        "endpoint_of": endpoint_url,
        "first_host": reach.first_host,
        "stable_uuid": lambda purpose: str(uuid5(_NAMESPACE, f"{view.name}/{host.name}/{purpose}")),
        "fail": _fail,
        "on_message_queue": _on_message_queue,
    }


def _on_message_queue(unit: str) -> str:
    """Shell text that succeeds when a process of the unit has a connection to the message queue.

    A service that is merely running may be waiting for the queue; one that is connected has read its configuration.
    """
    return (
        f"group=$(systemctl show -P ControlGroup {unit}); "
        "pids=$(tr '\\n' '|' < /sys/fs/cgroup$group/cgroup.procs); "
        f"if ! ss -Htnp state established '( dport = :{RABBITMQ_PORT} )' | grep -qE \"pid=(${{pids%|}}),\"; "
        f"then echo 'no process of {unit} is connected to the message queue'; exit 1; fi"
    )


@dataclass(frozen=True, slots=True)
class _Reach:
    """How one component reaches the others."""

    component: Component
    components: Components
    view: SiteView

    def secret(self, name: str, key: str = "password", form: str = "plain") -> str:
        """A reference to a value of a secret."""
        return reference(name, key, form)

    def address_of(self, component: str) -> str:
        """Where a component is reached: its first host's internal address. Raises NotFound while that has none."""
        return self._hosts(component)[0].reached_at()

    def first_host(self, component: str) -> str:
        """The name of the first host with a component."""
        return self._hosts(component)[0].name

    def _hosts(self, component: str) -> tuple[HostView, ...]:
        hosts = self.view.hosts_with(component)
        if not hosts:
            raise InvalidRequest(
                f"{self.component.name} has to reach {component}, which runs on no host",
                hint=f"give a host a role that includes {component}, or leave {self.component.name} out",
            )
        return hosts

    def database_url(self, name: str) -> str:
        """The SQLAlchemy URL of a database, wherever it is declared."""
        database = self._declared_database(name)
        password = reference(database.secret, "password", "url")
        place = self.address_of("mariadb")
        return f"mysql+pymysql://{database.user}:{password}@{place}:3306/{database.name}?charset=utf8mb4"

    def _declared_database(self, name: str) -> Database:
        known = {each.name: each for component in self.components.values() for each in component.databases}
        if name not in known:
            raise InvalidRequest(f"no component declares the database {name!r}", hint="add it under databases:")
        return known[name]

    def message_queue_url(self, user: str) -> str:
        """The oslo.messaging URL for a user of the message queue, with every host that runs it."""
        known = {each.user: each for component in self.components.values() for each in component.message_queue}
        if user not in known:
            raise InvalidRequest(f"no component declares the user {user!r}", hint="add it under message_queue:")
        hosts = ",".join(self._queue_host(known[user], each) for each in self._hosts("rabbitmq"))
        return f"rabbit://{hosts}/{'' if known[user].vhost == '/' else known[user].vhost}"

    def message_queue_template(self) -> str:
        """As `message_queue_url`, in the form that nova keeps of a cell: names in braces stand for every value."""
        numbers = ["", *(str(n) for n in range(1, len(self._hosts("rabbitmq"))))]
        hosts = ",".join("{username%s}:{password%s}@{hostname%s}:{port%s}" % ((n,) * 4) for n in numbers)
        return "{scheme}://" + hosts + "/" + "{path}"

    def _queue_host(self, queue: MessageQueueUser, host: HostView) -> str:
        return f"{queue.user}:{reference(queue.secret, 'password', 'url')}@{host.address}:{RABBITMQ_PORT}"

    def memcached_servers(self) -> str:
        """Every memcached on a host that is up, joined by commas."""
        return ",".join(f"{each.address}:{MEMCACHED_PORT}" for each in self._hosts("memcached") if each.address)

    def endpoint(self, component: str, interface: str = "internal", type: str = "") -> str:
        """The URL of a component's service, as the catalogue has it."""
        services = component_named(self.components, component).catalog
        service = next((each for each in services if type in ("", each.type)), None)
        if service is None:
            raise InvalidRequest(f"{component} has no service in the catalogue", hint="add it under catalog:")
        return endpoint_url(component_named(self.components, component), service, self.view, interface)
