"""Whether a component's program talks to the message queue, as its health check sees it on a Debian host."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from drivers.ssh import open_host
from levier.domain.ssh import CommandResult, RemoteHost
from levier.services.components import shell_script
from tests.rig.container import Container
from tests.unit.components.sites import ONE_NIC, rendered, site_in

pytestmark = pytest.mark.root

UNIT = "levier-nova-conductor.service"
QUEUE = "systemd-run --quiet --unit queue --socket-property ListenStream=127.0.0.1:5672 sleep 600"
TALKS = "exec 3<>/dev/tcp/127.0.0.1/5672; exec sleep 600"
TALKING = "until ss -Htn state established '( dport = :5672 )' | grep -q .; do sleep 0.1; done"


@pytest.fixture
def host(debian_12: Container) -> Iterator[RemoteHost]:
    """A host with a message queue."""
    host = open_host(debian_12.target())
    host.run(QUEUE)
    yield host
    host.run(f"systemctl stop {UNIT} queue.socket queue.service; systemctl reset-failed", check=False)
    host.close()


def health(host: RemoteHost) -> CommandResult:
    """The shipped check of the conductor."""
    check = rendered(site_in(ONE_NIC), "one", "nova-conductor").health
    assert check is not None
    assert check.command is not None
    return host.run(shell_script(check.command, user=check.user, environment_file=None), check=False)


def test_a_program_that_only_runs_is_told(host: RemoteHost) -> None:
    host.run(f"systemd-run --quiet --unit {UNIT} sleep 600")
    seen = health(host)
    assert (seen.exit_status, seen.stdout.strip()) == (1, f"no process of {UNIT} is connected to the message queue")


def test_another_s_connection_is_not_its_own(host: RemoteHost) -> None:
    host.run(f"systemd-run --quiet --unit {UNIT} sleep 600; systemd-run --quiet --unit other bash -c '{TALKS}'")
    host.run(TALKING, timeout_s=60)
    seen = health(host)
    host.run("systemctl stop other.service")
    assert seen.exit_status == 1


def test_a_program_that_talks_is_healthy(host: RemoteHost) -> None:
    host.run(f"systemd-run --quiet --unit {UNIT} bash -c '{TALKS}'")
    host.run(TALKING, timeout_s=60)
    seen = health(host)
    assert (seen.exit_status, seen.stdout, seen.stderr) == (0, "", "")
