"""Where a component's services are reached, as keystone's catalogue shall say."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from levier.domain.component import CatalogService, Component
from levier.domain.errors import InvalidRequest
from levier.domain.install_plan import PROXY
from levier.services.components.view import SiteView


class CatalogEntry(BaseModel):
    """A service, its URLs and its user. The user's password is a reference by name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    name: str
    description: str
    public: str
    internal: str
    admin: str
    user: str | None
    roles: tuple[str, ...]
    secret: str | None


def catalog_entries(component: Component, view: SiteView) -> tuple[CatalogEntry, ...]:
    """The component's services. Pure."""
    return tuple(_entry(component, service, view) for service in component.catalog)


def endpoint_url(component: Component, service: CatalogService, view: SiteView, interface: str) -> str:
    """The URL of a service: `public` (by TLS where haproxy runs), or `internal` and `admin`, which are the same."""
    hosts = view.hosts_with(component.name)
    if not hosts:
        raise InvalidRequest(
            f"{component.name} runs on no host, so {service.name} has no endpoint",
            hint=f"give a host a role that includes {component.name}",
        )
    endpoint = service.endpoint
    if interface == "public" and view.runs(PROXY):
        return f"https://{view.public_host}:{endpoint.public_port}{endpoint.path}"
    if interface == "public":
        return f"http://{view.public_host}:{endpoint.port}{endpoint.path}"
    return f"http://{hosts[0].reached_at()}:{endpoint.port}{endpoint.path}"


def _entry(component: Component, service: CatalogService, view: SiteView) -> CatalogEntry:
    internal = endpoint_url(component, service, view, "internal")
    return CatalogEntry(
        type=service.type,
        name=service.name,
        description=service.description,
        public=endpoint_url(component, service, view, "public"),
        internal=internal,
        admin=internal,
        user=service.user,
        roles=service.roles if service.user else (),
        secret=service.secret,
    )
