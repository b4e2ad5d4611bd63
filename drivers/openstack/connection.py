"""A connection to the cloud's APIs, with the errors of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import openstack
from keystoneauth1 import exceptions as keystone
from openstack import exceptions
from openstack.connection import Connection
from requests import Response
from requests.adapters import HTTPAdapter

from levier.domain.errors import AuthFailed, Busy, Conflict, NotFound, OutcomeUnknown, Rejected, Unreachable
from levier.domain.permit import Permit

TIMEOUT_S = 60
_BUSY = frozenset({429, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class CloudLogin:
    """Where the cloud's identity service is, and as whom it is entered. The password is never shown."""

    auth_url: str
    username: str
    password: str = field(repr=False)
    project: str = "admin"
    region: str = "RegionOne"
    interface: str = "internal"
    ca_file: str = ""
    """Certificate of the authority that the endpoints' certificates are checked by; empty for plain HTTP."""


@contextmanager
def cloud_connection(login: CloudLogin, permit: Permit) -> Iterator[Connection]:
    """The cloud's APIs; `permit` is asked before each request. Closed at the end.

    Within the block openstacksdk's errors become those of levier.domain.errors: a request that may have been carried
    out without its answer arriving is OutcomeUnknown.
    """
    connection = openstack.connect(
        load_yaml_config=False,
        load_envvars=False,
        auth_url=login.auth_url,
        username=login.username,
        password=login.password,
        project_name=login.project,
        user_domain_name="Default",
        project_domain_name="Default",
        region_name=login.region,
        interface=login.interface,
        verify=login.ca_file or True,
        api_timeout=TIMEOUT_S,
        app_name="levier",
    )
    _ask_before_each(connection, permit)
    try:
        yield connection
    except (keystone.Unauthorized, keystone.MissingAuthPlugin) as error:
        raise AuthFailed(
            f"{login.auth_url} refuses {login.username}: {error}", hint="see the cloud's secrets"
        ) from error
    except (keystone.ConnectFailure, keystone.DiscoveryFailure) as error:
        raise Unreachable(f"the cloud's API does not answer: {error}", hint=f"is {login.auth_url} served?") from error
    except (keystone.RetriableConnectionFailure, keystone.ConnectTimeout) as error:
        raise OutcomeUnknown(f"the cloud's API gave no answer: {error}") from error
    except exceptions.NotFoundException as error:
        raise NotFound(f"the cloud does not know it: {error}") from error
    except exceptions.ConflictException as error:
        raise Conflict(f"the cloud refuses: {error}", hint="look at it with openstack") from error
    except exceptions.HttpException as error:
        kind = Busy if error.status_code in _BUSY else Rejected
        raise kind(f"the cloud's API refuses: {error}", hint="see the service's log on its host") from error
    finally:
        connection.close()


def _ask_before_each(connection: Connection, permit: Permit) -> None:
    """A worker that was replaced sends no request any more."""
    for scheme in ("http://", "https://"):
        connection.session.session.mount(scheme, _Asking(permit))


class _Asking(HTTPAdapter):
    """Sends a request only with permission."""

    def __init__(self, permit: Permit) -> None:
        super().__init__()
        self._permit = permit

    def send(self, *arguments: Any, **named: Any) -> Response:
        """See HTTPAdapter. Raises what the permission raises, LeaseLost."""
        self._permit()
        return super().send(*arguments, **named)
