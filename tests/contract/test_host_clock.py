"""A host's clock compared with ours, over a real OpenSSH server whose sessions see another time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.baseline import TOLERANCE_S, clock_offset_s, verify_clock
from drivers.ssh import open_host
from levier.domain.errors import MalformedReply, Rejected
from levier.domain.ssh import RemoteHost
from tests.rig.sshd import LoopbackSshd

pytestmark = pytest.mark.root


@contextmanager
def host_at(directory: Path, base: str) -> Iterator[RemoteHost]:
    """A host whose date(1) tells the time that is in the file `ahead`, as date(1) understands it."""
    (directory / "ahead").write_text(base)
    shim = directory / "date"
    shim.write_text(f'#!/bin/sh\nexec /bin/date -d "$(cat {directory}/ahead)" "$@"\n')
    shim.chmod(0o755)
    server = LoopbackSshd(directory, extra_config=f"SetEnv PATH={directory}:/usr/bin:/bin")
    server.start()
    host = open_host(server.target())
    try:
        host.run("true")  # the offset is an average over the question: let it not be the login's, too
        yield host
    finally:
        host.close()
        server.stop()


@pytest.mark.parametrize("ahead_s", [0, 86400, -3600])
def test_the_offset_is_measured(tmp_path: Path, ahead_s: int) -> None:
    with host_at(tmp_path, f"{ahead_s} seconds") as host:
        assert clock_offset_s(host) == pytest.approx(ahead_s, abs=10)


def test_a_right_clock_is_taken_at_once(tmp_path: Path) -> None:
    with host_at(tmp_path, f"{TOLERANCE_S - 10} seconds") as host:
        began = time.monotonic()
        assert verify_clock(host, timeout_s=60) == pytest.approx(TOLERANCE_S - 10, abs=8)
        assert time.monotonic() - began < 30


@pytest.mark.parametrize(
    ("base", "told"), [("1 day", r"8(639|640)\d s ahead"), ("1 day ago", r"8(639|640)\d s behind")]
)
def test_a_clock_far_off_is_refused_with_its_offset_and_the_way_out(tmp_path: Path, base: str, told: str) -> None:
    with host_at(tmp_path, base) as host, pytest.raises(Rejected, match=told) as caught:
        verify_clock(host, timeout_s=0.5)
    assert "ntp_servers" in caught.value.hint


def test_a_clock_that_is_set_right_in_time_is_waited_for(tmp_path: Path) -> None:
    with host_at(tmp_path, "1 year") as host:
        host.run(f"(sleep 1; echo now > {tmp_path}/ahead) >/dev/null 2>&1 &")
        assert abs(verify_clock(host, timeout_s=30)) < 10


def test_a_host_that_tells_no_time_is_no_host_with_a_right_clock(tmp_path: Path) -> None:
    with host_at(tmp_path, "now") as host:
        (tmp_path / "date").write_text("#!/bin/sh\necho yesterday\n")
        with pytest.raises(MalformedReply, match="yesterday"):
            verify_clock(host, timeout_s=1)
