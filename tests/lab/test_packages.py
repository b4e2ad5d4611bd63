"""The lab's package mirror as a process of the lab: reached from inside, fetching from outside, gone with the lab."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from levier.lab.cgroups import MIRROR_GROUP, CgroupTree
from levier.lab.spec import ChassisKind, MirrorSpec
from tests.lab.conftest import Bench
from tests.lab.provisioning import wait_until

pytestmark = pytest.mark.root
_REFUSED = 7
"""curl's status when nobody listens."""


def _get(bench: Bench, path: str) -> subprocess.CompletedProcess[str]:
    url = f"{bench.spec.mirror_url}/{path}"
    command = bench.rack.inside("curl", "-sS", "--noproxy", "*", "-m", "60", "-w", "\n%{http_code}", url)
    return subprocess.run(command, capture_output=True, text=True, timeout=70)


def test_the_mirror_serves_inside_what_it_fetches_outside_and_ends_with_the_lab(
    make_bench: Callable[..., Bench],
) -> None:
    mirror = MirrorSpec(security=True, check_valid_until=False)
    bench = make_bench(chassis=ChassisKind.NSPAWN, nodes=1, mirror=mirror)
    release = _get(bench, "debian/dists/stable/InRelease")
    assert release.stdout.endswith("\n200"), release.stderr
    assert "Origin: Debian" in release.stdout
    assert _get(bench, "elsewhere/dists/stable/InRelease").stdout.endswith("\n404")
    status = bench.rack.status()
    assert (status["mirror"], status["mirror_state"]) == ("http://10.77.0.1:3142", "running")

    group = CgroupTree(bench.spec.name)
    (pid,) = group.pids(MIRROR_GROUP)
    assert Path(f"/proc/{pid}/ns/net").readlink() == Path("/proc/self/ns/net").readlink()
    group.kill(MIRROR_GROUP)
    assert bench.rack.status()["mirror_state"] == "dead"
    assert _get(bench, "debian/dists/stable/InRelease").returncode == _REFUSED
    assert bench.rack.down()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), what="the mirror's end")
    assert not group.exists
    assert not bench.rack.layout.mirror_log.exists()
