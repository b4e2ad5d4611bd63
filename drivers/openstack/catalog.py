"""Services, endpoints and users of services in keystone, as the components want them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from keystoneauth1.exceptions import Unauthorized
from keystoneauth1.identity.v3 import Password
from openstack.connection import Connection
from openstack.identity.v3._proxy import Proxy
from pydantic import BaseModel, ConfigDict, Field

from levier.domain.errors import Unsupported

DOMAIN = "default"
SERVICE_PROJECT = "service"


class CatalogItem(BaseModel):
    """A service of the catalogue, its URLs and its user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: str
    name: str
    description: str
    region: str
    urls: dict[str, str]
    """By interface: public, internal, admin."""
    user: str | None = None
    password: str = Field(default="", repr=False)
    roles: tuple[str, ...] = ()


class Found(BaseModel):
    """What of it there is, by identity. JSON-serialisable; no secret in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    services: tuple[str, ...] = ()
    endpoints: dict[str, str] = Field(default_factory=dict)
    """With their URLs."""
    users: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    grants: tuple[tuple[str, str], ...] = ()
    """User and role in the project of services."""
    project: str | None = None
    """The project of services."""


def find(cloud: Connection, items: Sequence[CatalogItem]) -> Found:
    """What there is of `items`; nothing is changed."""
    services = [each for item in items for each in _services(cloud, item)]
    users = [_user(cloud, item.user) for item in items if item.user]
    roles = [identity(cloud).find_role(name) for name in dict.fromkeys(r for item in items for r in item.roles)]
    project = _project(cloud) if users else None
    found_users = tuple(each.id for each in users if each is not None)
    return Found(
        services=tuple(each.id for each in services),
        endpoints={e.id: e.url for each in services for e in identity(cloud).endpoints(service_id=each.id)},
        users=found_users,
        roles=tuple(each.id for each in roles if each is not None),
        grants=() if project is None else tuple(g for u in found_users for g in _grants(cloud, project.id, u)),
        project=None if project is None else project.id,
    )


def ensure(cloud: Connection, items: Sequence[CatalogItem]) -> tuple[str, ...]:
    """Each service, its endpoints and its user with his roles are as `items` say; what was changed, in words.

    Safe to repeat. A password is set only when it is not accepted: setting it would end every token of its user.
    """
    changed: list[str] = []
    for item in items:
        service = next(iter(_services(cloud, item)), None)
        if service is None:
            service = identity(cloud).create_service(type=item.type, name=item.name, description=item.description)
            changed.append(f"service {item.name}")
        changed += _ensure_endpoints(cloud, service.id, item)
        if item.user:
            changed += _ensure_user(cloud, item)
    return tuple(changed)


def remove(cloud: Connection, items: Sequence[CatalogItem], *, keep: Found) -> tuple[str, ...]:
    """Of `items` only what is in `keep` is there, and as it says; what was changed. Safe to repeat.

    A project or a role that somebody else uses by now stays. Passwords stay: those from before are not known.
    """
    now = find(cloud, items)
    changed = [*_put_endpoints_back(cloud, now, keep)]
    for service in set(now.services) - set(keep.services):
        identity(cloud).delete_service(service)
        changed.append(f"service {service}")
    for user in set(now.users) - set(keep.users):
        identity(cloud).delete_user(user)
        changed.append(f"user {user}")
    changed += _revoke(cloud, now, keep)
    for role in set(now.roles) - set(keep.roles):
        if not any(identity(cloud).role_assignments(role_id=role)):
            identity(cloud).delete_role(role)
            changed.append(f"role {role}")
    project = now.project if keep.project is None else None
    if project is not None and not any(identity(cloud).role_assignments(scope_project_id=project)):
        identity(cloud).delete_project(project)
        changed.append(f"project {project}")
    return tuple(sorted(changed))


def _revoke(cloud: Connection, now: Found, keep: Found) -> Iterator[str]:
    for user, role in set(now.grants) - set(keep.grants):
        if now.project is not None and user in keep.users:
            identity(cloud).unassign_project_role_from_user(now.project, user, role)
            yield f"role {role} of user {user}"


def _put_endpoints_back(cloud: Connection, now: Found, keep: Found) -> Iterator[str]:
    for endpoint, url in now.endpoints.items():
        if endpoint not in keep.endpoints:
            identity(cloud).delete_endpoint(endpoint)
        elif url != keep.endpoints[endpoint]:
            identity(cloud).update_endpoint(endpoint, url=keep.endpoints[endpoint])
        else:
            continue
        yield f"endpoint {endpoint}"


def _project(cloud: Connection) -> Any:
    return identity(cloud).find_project(SERVICE_PROJECT, domain_id=DOMAIN)


def _grants(cloud: Connection, project: str, user: str) -> Iterator[tuple[str, str]]:
    for each in identity(cloud).role_assignments(scope_project_id=project, user_id=user):
        yield user, str(each.role["id"])


def identity(cloud: Connection) -> Proxy:
    """The identity service, version 3. Raises Unsupported."""
    if not isinstance(cloud.identity, Proxy):
        raise Unsupported("the cloud's identity service speaks version 2 only", hint="Levier's clouds speak version 3")
    return cloud.identity


def _services(cloud: Connection, item: CatalogItem) -> list[Any]:
    return [each for each in identity(cloud).services(type=item.type) if each.name == item.name]


def _ensure_endpoints(cloud: Connection, service: str, item: CatalogItem) -> list[str]:
    own = {
        each.interface: each for each in identity(cloud).endpoints(service_id=service) if each.region_id == item.region
    }
    changed = []
    for interface, url in item.urls.items():
        present = own.get(interface)
        if present is None:
            identity(cloud).create_endpoint(service_id=service, interface=interface, url=url, region_id=item.region)
        elif present.url != url:
            identity(cloud).update_endpoint(present, url=url)
        else:
            continue
        changed.append(f"{interface} endpoint of {item.name}")
    return changed


def _user(cloud: Connection, name: str) -> Any:
    return identity(cloud).find_user(name, domain_id=DOMAIN)


def _accepts(cloud: Connection, item: CatalogItem) -> bool:
    login = Password(
        auth_url=str(cloud.config.get_auth_args()["auth_url"]),
        username=item.user,
        password=item.password,
        user_domain_id=DOMAIN,
        unscoped=True,
    )
    try:
        return bool(login.get_token(cloud.session))
    except Unauthorized:
        return False


def _ensure_user(cloud: Connection, item: CatalogItem) -> list[str]:
    changed = []
    user = _user(cloud, str(item.user))
    project = _project(cloud)
    if project is None:
        project = identity(cloud).create_project(name=SERVICE_PROJECT, domain_id=DOMAIN)
        changed.append(f"project {SERVICE_PROJECT}")
    if user is None:
        user = identity(cloud).create_user(name=item.user, domain_id=DOMAIN, password=item.password)
        changed.append(f"user {item.user}")
    elif not _accepts(cloud, item):
        identity(cloud).update_user(user, password=item.password)
        changed.append(f"password of {item.user}")
    for name in item.roles:
        role = identity(cloud).find_role(name) or identity(cloud).create_role(name=name)
        if not identity(cloud).validate_user_has_project_role(project, user, role):
            identity(cloud).assign_project_role_to_user(project, user, role)
            changed.append(f"role {name} of {item.user}")
    return changed
