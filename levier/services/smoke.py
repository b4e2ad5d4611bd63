"""The smoke test as its steps see it: names, what is covered, and its two ways into the cloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from openstack.connection import Connection

from drivers.guest import NAME as GUEST
from drivers.guest import BuiltGuest, list_guests, verify_guest
from drivers.host import complaints
from drivers.openstack.connection import cloud_connection
from drivers.openstack.sweeping import COMPUTE, IMAGE, NETWORK, VOLUME, Swept, leftovers, sweep
from levier.domain import smoke
from levier.domain.errors import NotFound
from levier.domain.smoke import SmokeScope
from levier.services.context import NodeContext
from levier.services.polling import wait_while_less

_ASK_AGAIN_S = 60.0
"""A server that is being deleted stays when its host goes down meanwhile, until nova is asked again."""
_SERVICES = {"nova-api": COMPUTE, "neutron-server": NETWORK, "glance": IMAGE, "cinder-api": VOLUME}


def newest_guest(cache: Path) -> BuiltGuest:
    """The newest guest on the shelf. Raises NotFound with the command that builds it.

    It is not built where it is needed: a flow run may have no way to a package archive.
    """
    newest = next(iter(list_guests(cache)), None)
    if newest is None:
        raise NotFound("there is no guest for the smoke test", hint=f"levier image build {GUEST}")
    return newest


@dataclass(frozen=True, slots=True)
class SmokeTest:
    """The test of one operation, on the host of one step."""

    ctx: NodeContext

    @property
    def name(self) -> str:
        """Of all that it makes."""
        return smoke.smoke_name(self.ctx.operation)

    @property
    def own_name(self) -> str:
        """Of what it makes for this host."""
        return smoke.server_name(self.ctx.operation, self.ctx.name)

    @property
    def scope(self) -> SmokeScope:
        """What is checked where."""
        return smoke.smoke_scope(self.ctx.site, self.ctx.cloud.components)

    @property
    def services(self) -> frozenset[str]:
        """The services that the cloud has."""
        view = self.ctx.cloud.view(self.ctx.site)
        return frozenset(service for component, service in _SERVICES.items() if view.runs(component))

    @property
    def not_checked(self) -> dict[str, str]:
        """What cannot be checked on this host, and why."""
        return {check.value: reason for check, reason in self.scope.left_out[self.ctx.name].items()}

    # --- into the cloud ---------------------------------------------------------------------------------------------

    @contextmanager
    def admin(self) -> Iterator[Connection]:
        """The cloud, as its administrator in the administrator's project."""
        with cloud_connection(self.ctx.cloud.login(self.ctx.site), self.ctx.guard) as connection:
            yield connection

    @contextmanager
    def own(self) -> Iterator[Connection]:
        """The cloud, in the project of the test, which must exist."""
        login = replace(self.ctx.cloud.login(self.ctx.site), project=self.name)
        with cloud_connection(login, self.ctx.guard) as connection:
            yield connection

    # --- guest ------------------------------------------------------------------------------------------------------

    def guest(self) -> BuiltGuest:
        """The newest guest on the shelf, verified. Raises NotFound with the command that builds it, Rejected."""
        return verify_guest(newest_guest(self.ctx.services.image_cache))

    # --- removal ----------------------------------------------------------------------------------------------------

    def remove(self, *, timeout_s: float, check: Callable[[], None]) -> Swept:
        """Nothing of the test is in any service, or what is left is told. Safe to repeat.

        It goes on while less is left from time to time: `timeout_s` counts from the last time.
        """
        removed: dict[str, None] = {}
        left: tuple[str, ...] = ()
        asked = time.monotonic()
        with self.admin() as cloud:

            def look() -> int | None:
                nonlocal left, asked
                again = time.monotonic() - asked > _ASK_AGAIN_S
                asked = time.monotonic() if again else asked
                swept = sweep(cloud, self.name, self.services, again=again)
                removed.update(dict.fromkeys(swept.removed))
                left = swept.left
                return len(left) if swept.all_seen else None

            wait_while_less(look, host=self.ctx.own_host, timeout_s=timeout_s, check=check)
        return Swept(tuple(removed), left)

    def leftovers(self) -> tuple[str, ...]:
        """What of the test is in any service."""
        with self.admin() as cloud:
            return leftovers(cloud, self.name, self.services)

    # --- words ------------------------------------------------------------------------------------------------------

    def journal(self) -> str:
        """The last complaints of this host's compute service, for an error's message; why not, when it has none."""
        try:
            return complaints(self.ctx.own_host(), ["levier-nova-compute.service"])
        except NotFound as error:
            return f"its journal cannot be read: {error}"
