"""`levier demo --chassis stub` as a user without any privilege: root drops them, which is all that root is for here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.prefect_server import free_port
from tests.rig.stub_host import free_ports

pytestmark = pytest.mark.root
_REPOSITORY = Path(__file__).resolve().parents[2]
_UID = 61_000 + os.getpid() % 4_000
"""Nobody's: without an entry in passwd(5), and another one for each run of the tests."""


@pytest.fixture
def home() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="levier-nobody-", dir="/var/tmp"))
    directory.chmod(0o755)
    own = directory / "home"
    own.mkdir()
    os.chown(own, _UID, _UID)
    try:
        yield own
    finally:
        shutil.rmtree(directory)


def _unprivileged(argv: list[str], home: Path) -> list[str]:
    """The command as that user, in a mount namespace in which it can reach this interpreter and this checkout."""
    mounts = []
    for number, path in enumerate(dict.fromkeys(map(Path, (sys.base_prefix, sys.prefix, str(_REPOSITORY))))):
        closed = next((p for p in reversed(path.parents) if not p.stat().st_mode & 0o001), None)
        if closed is not None:
            stage = home.parent / f"stage-{number}"
            inner = stage / path.relative_to(closed)
            mounts.append(f"mkdir -p {inner} && mount --bind {path} {inner} && mount --rbind {stage} {closed}")
    script = " && ".join([*mounts, 'exec "$@"'])
    drop = ["setpriv", f"--reuid={_UID}", f"--regid={_UID}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"]
    return ["unshare", "--mount", "sh", "-ec", script, "sh", *drop, *argv]


def _run(home: Path, *argv: str, **more: str) -> subprocess.CompletedProcess[str]:
    ports = free_ports()
    environment = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(_REPOSITORY),
        "COLUMNS": "200",
        "LEVIER_LAB_BMC_PORT": str(ports.bmc),
        "LEVIER_LAB_SSH_PORT": str(ports.ssh),
        "LEVIER_BOOT_PORT": str(ports.boot),
        "LEVIER_API_PORT": str(free_port()),
        "LEVIER_PREFECT_PORT": str(free_port()),
        **more,
    }
    command = _unprivileged([sys.executable, "-m", "levier", *argv], home)
    return subprocess.run(command, env=environment, cwd=home, capture_output=True, text=True, timeout=400)


def _processes() -> list[str]:
    """What runs; one without a command line is dead and only waits for its parent to notice."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if process.stat().st_uid == _UID:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return [command for command in found if command]


def test_the_demonstration_runs_without_any_privilege(home: Path) -> None:
    done = _run(home, "demo", "--chassis", "stub", "--nodes", "2", "--name", "nobody")
    print(done.stdout[-6000:], done.stderr[-3000:])
    assert done.returncode == 0
    assert "Everything shown was checked against the lab's own ledger." in done.stdout
    claims = [line for line in done.stdout.splitlines() if line.startswith("│") and " ok " in line]
    assert len(claims) == 2 + 5 * 2 + 2 + 2  # off; deployed; off again, no entry, no address
    assert str(home / ".local/state/levier/lab/nobody") in done.stdout
    assert list((home / ".local/state/levier/lab").iterdir()) == []
    assert _processes() == []


def test_the_other_chassis_say_that_they_need_root(home: Path) -> None:
    for chassis in ("qemu", "nspawn"):
        refused = _run(home, "lab", "up", "--chassis", chassis)
        assert refused.returncode == 1
        assert "needs root" in refused.stderr
        assert "--chassis stub" in refused.stderr
