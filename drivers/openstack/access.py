"""Application credentials: access for a person or a program, without anybody's password."""

from __future__ import annotations

from dataclasses import dataclass, field

from openstack import exceptions
from openstack.connection import Connection
from openstack.identity.v3._proxy import Proxy

from levier.domain.errors import Busy, Unsupported

_ROLE_NOT_FOUND = "Could not find role assignment"


@dataclass(frozen=True, slots=True)
class ApplicationCredential:
    """A login of its own that can be taken back on its own."""

    id: str
    secret: str = field(repr=False)
    """Keystone tells it once, and never again."""


def find_credential(cloud: Connection, name: str) -> str | None:
    """The identity of the application credential of that name of the one who is logged in; None without one."""
    own = _identity(cloud).application_credentials(str(cloud.current_user_id))
    return next((str(each.id) for each in own if each.name == name), None)


def new_credential(cloud: Connection, name: str, *, description: str) -> ApplicationCredential:
    """A new application credential with the roles of the one who is logged in; an older one of that name is gone.

    Raises Busy while keystone does not find a role that is in the token of the same session: it keeps tokens' roles and
    assignments in a cache, and under load the two were seen to differ for a moment (2026.2).
    Source: keystone API reference, POST /v3/users/{user_id}/application_credentials.
    """
    remove_credential(cloud, name)
    try:
        made = _identity(cloud).create_application_credential(str(cloud.current_user_id), name, description=description)
    except exceptions.BadRequestException as error:
        if _ROLE_NOT_FOUND not in str(error):
            raise
        raise Busy(f"keystone does not find a role of its own token yet: {error}", hint="repeat it") from error
    return ApplicationCredential(str(made.id), str(made.secret))


def remove_credential(cloud: Connection, name: str) -> bool:
    """There is no application credential of that name; whether there was one. Safe to repeat."""
    present = find_credential(cloud, name)
    if present is not None:
        _identity(cloud).delete_application_credential(str(cloud.current_user_id), present)
    return present is not None


def _identity(cloud: Connection) -> Proxy:
    if not isinstance(cloud.identity, Proxy):
        raise Unsupported("the cloud's identity service speaks version 2 only", hint="Levier's clouds speak version 3")
    return cloud.identity
