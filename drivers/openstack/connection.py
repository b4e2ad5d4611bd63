"""A connection to the cloud's APIs, with the errors of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import openstack
from keystoneauth1 import exceptions as keystone
from openstack import exceptions
from openstack.connection import Connection
from requests import Response
from requests.adapters import HTTPAdapter

from levier.domain.errors import (
    AuthFailed,
    Busy,
    Conflict,
    LevierError,
    NotFound,
    OutcomeUnknown,
    Rejected,
    Unreachable,
)
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

    Keystone is reached by the login's URL, whatever the catalogue says of it; the others by the catalogue.

    Within the block the errors of openstacksdk and of keystoneauth below it become those of levier.domain.errors: a
    request that may have been carried out without its answer arriving is OutcomeUnknown.
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
        # Keystone's own entries are made and mended through this: they may be missing, or lead nowhere.
        identity_endpoint_override=login.auth_url,
        verify=login.ca_file or True,
        api_timeout=TIMEOUT_S,
        app_name="levier",
    )
    _ask_before_each(connection, permit)
    try:
        yield connection
    except (keystone.ClientException, keystone.RetriableConnectionFailure) as error:
        raise _of_keystoneauth(error, login) from error
    except exceptions.SDKException as error:
        raise _of_the_sdk(error) from error
    finally:
        connection.close()


def service_failed(error: LevierError) -> bool:
    """Whether the error is a service's word that it failed itself (5xx): it answers, but does nothing it is asked."""
    return (_status(error.__cause__) or 0) >= HTTPStatus.INTERNAL_SERVER_ERROR


def is_busy(error: BaseException) -> bool:
    """Whether a status says that the service, or what is in front of it, takes no requests for now."""
    return _status(error) in _BUSY


def _status(error: BaseException | None) -> int | None:
    """The HTTP status that came as an error, of whichever of the two libraries; None when there was no answer."""
    if isinstance(error, keystone.HttpError):
        return int(error.http_status)
    return error.status_code if isinstance(error, exceptions.HttpException) else None


def _of_keystoneauth(error: Exception, login: CloudLogin) -> LevierError:
    """As an error of this project: what happens on the way to a service, the login included."""
    if isinstance(error, keystone.Unauthorized | keystone.MissingAuthPlugin):
        return AuthFailed(f"{login.auth_url} refuses {login.username}: {error}", hint="see the cloud's secrets")
    if isinstance(error, keystone.HttpError):
        return _refusal(error)
    if isinstance(error, keystone.ConnectFailure | keystone.DiscoveryFailure):
        return Unreachable(f"the cloud's API does not answer: {error}", hint=f"is {login.auth_url} served?")
    if isinstance(error, keystone.SSLError):
        return Unreachable(f"the cloud's API is not trusted: {error}", hint="see the cloud's certificates")
    if isinstance(error, keystone.CatalogException):
        return Rejected(f"the cloud's catalogue lacks a service: {error}", hint="openstack catalog list")
    # Whatever else: it may have been on its way already.
    return OutcomeUnknown(f"the cloud's API gave no answer: {error}")


def _of_the_sdk(error: exceptions.SDKException) -> LevierError:
    """As an error of this project: what a service answers."""
    if isinstance(error, exceptions.NotFoundException):
        return NotFound(f"the cloud does not know it: {error}")
    if isinstance(error, exceptions.ConflictException):
        return Conflict(f"the cloud refuses: {error}", hint="look at it with openstack")
    return _refusal(error)


def _refusal(error: Exception) -> Rejected:
    kind = Busy if is_busy(error) else Rejected
    return kind(f"the cloud's API refuses: {error}", hint="see the service's log on its host")


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
