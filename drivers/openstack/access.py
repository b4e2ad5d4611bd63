"""Application credentials: access for a person or a program, without anybody's password."""

from __future__ import annotations

from dataclasses import dataclass, field

from openstack.connection import Connection
from openstack.identity.v3._proxy import Proxy

from levier.domain.errors import Unsupported


@dataclass(frozen=True, slots=True)
class ApplicationCredential:
    """A login of its own that can be taken back on its own."""

    name: str
    id: str
    secret: str = field(repr=False)
    """Keystone tells it once, and never again."""


def new_application_credential(cloud: Connection, *, name: str, description: str) -> ApplicationCredential:
    """A new application credential with the roles of the one who is logged in, on his project.

    Not safe to repeat: names are unique. Raises Conflict when the name is taken.
    Source: keystone API reference, POST /v3/users/{user_id}/application_credentials.
    """
    identity = cloud.identity
    if not isinstance(identity, Proxy):
        raise Unsupported("the cloud's identity service speaks version 2 only", hint="Levier's clouds speak version 3")
    made = identity.create_application_credential(str(cloud.current_user_id), name, description=description)
    return ApplicationCredential(made.name, made.id, str(made.secret))
