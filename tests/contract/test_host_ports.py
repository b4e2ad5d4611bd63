"""Who listens on a running Debian host: a unit's own programs are told from all others."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from drivers.host import listeners
from drivers.ssh import open_host
from levier.domain.ssh import RemoteHost
from tests.rig.container import Container

pytestmark = pytest.mark.root

OWN, OTHER, NOBODYS = 18081, 18082, 18083
LISTEN = (
    "use IO::Socket::INET; $listening = IO::Socket::INET->new(LocalPort => shift, Listen => 5) or die $!;"
    " system('systemd-notify', '--ready') and die 'not notified'; sleep"
)
OWN_UNIT, OTHER_UNIT = "levier-own.service", "levier-other.service"


@pytest.fixture
def host(debian_12: Container) -> Iterator[RemoteHost]:
    """A host where children of two units listen."""
    host = open_host(debian_12.target())
    with serving(host, OWN_UNIT, OWN), serving(host, OTHER_UNIT, OTHER):
        yield host
    host.close()


@contextmanager
def serving(host: RemoteHost, unit: str, port: int) -> Iterator[None]:
    when_ready = "--property=Type=notify --property=NotifyAccess=all"
    script = f"perl -e {shlex.quote(LISTEN)} {port}; true"
    host.run(f"systemd-run --quiet --unit={unit} --collect {when_ready} sh -c {shlex.quote(script)}")
    try:
        yield
    finally:
        host.run(f"systemctl stop {unit}")


def test_each_port_that_is_taken_has_its_program(host: RemoteHost) -> None:
    found = listeners(host, [OWN, OTHER, NOBODYS])
    assert sorted(found) == [OWN, OTHER]
    assert all(program.startswith("perl (process ") for program in found.values())


def test_what_a_unit_started_is_the_units_own(host: RemoteHost) -> None:
    assert sorted(listeners(host, [OWN, OTHER, NOBODYS], besides=[OWN_UNIT])) == [OTHER]
    assert listeners(host, [OWN, OTHER], besides=[OTHER_UNIT, OWN_UNIT]) == {}
    assert sorted(listeners(host, [OWN, OTHER], besides=["levier.service"])) == [OWN, OTHER]


def test_what_systemd_holds_for_a_socket_unit_is_that_units(host: RemoteHost) -> None:
    host.run(f"systemd-run --quiet --unit=levier-asked --socket-property=ListenStream={NOBODYS} true")
    try:
        assert listeners(host, [NOBODYS]) == {NOBODYS: "systemd (process 1)"}
        assert listeners(host, [NOBODYS], besides=["levier-asked.socket"]) == {}
        assert listeners(host, [NOBODYS], besides=[OWN_UNIT]) == {NOBODYS: "systemd (process 1)"}
    finally:
        host.run("systemctl stop levier-asked.socket")
