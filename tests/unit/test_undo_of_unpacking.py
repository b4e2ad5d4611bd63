"""The undo of unpacking a release: it removes what the step unpacked, whatever Levier's own shelf holds by then."""

from __future__ import annotations

import fcntl
import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from drivers.bundle.host import ensure_only
from drivers.bundle.host_work import MARKER
from levier.domain.errors import Busy, NotFound
from levier.domain.operation import JsonMap
from levier.domain.release import ROOT, BundleManifest
from levier.domain.ssh import CommandResult, RemoteHost
from levier.saga.step import Checkpoint
from levier.services.context import NodeContext
from levier.services.steps.installation import unpack_bundle

EARLIER, OWN, LINKED = "2026.1-0a1b2c3d", "2026.2-0a1b2c3d", "2025.2-0a1b2c3d"


class Computer:
    """This one in place of a host, with a directory in place of its root."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def run(
        self, command: str, *, timeout_s: float, check: bool = True, stdin: bytes | None = None, **_: object
    ) -> CommandResult:
        there = command.replace(json.dumps(ROOT), json.dumps(str(self._root)))
        assert there != command
        done = subprocess.run(["sh", "-c", there], input=stdin, capture_output=True, timeout=timeout_s, check=check)
        return CommandResult(done.returncode, done.stdout.decode(), done.stderr.decode(), duration_s=0.0)


class ChangedCloud:
    """Levier's shelf after `levier release remove`."""

    def bundle(self, *_: object) -> object:
        raise NotFound("there is no bundle", hint="levier release build")


def unpacked(root: Path, *identities: str) -> None:
    for identity in identities:
        place = root / "releases" / identity
        place.mkdir(parents=True)
        manifest = BundleManifest(
            release=identity.split("-")[0],
            image="debian-12",
            python="3.11",
            architecture="x86_64",
            sha256="0" * 64,
            size_bytes=1,
            unpacked_bytes=1,
            files=1,
            packages={},
            os_packages=(),
            built_at=datetime(2026, 11, 1, tzinfo=UTC),
            lock_digest="0" * 64,
            inputs_digest="0a1b2c3d" * 8,
        )
        (place / MARKER).write_text(manifest.model_dump_json())


def linked(root: Path, component: str, identity: str) -> None:
    (root / "current").mkdir()
    (root / "current" / component).symlink_to(root / "releases" / identity)


def undo(root: Path, *, outputs: JsonMap | None) -> JsonMap:
    context = SimpleNamespace(own_host=lambda: Computer(root), cloud=ChangedCloud(), site=None, node=None)
    checkpoint = Checkpoint(before={"identities": [EARLIER]}, outputs=outputs, attempts=1)
    assert callable(unpack_bundle.undo)
    return unpack_bundle.undo(cast(NodeContext, context), checkpoint)


def there(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "releases").iterdir() if path.name != ".lock")


@pytest.mark.parametrize("outputs", [{"identity": OWN, "changed": [OWN]}, None], ids=["done", "open"])
def test_what_was_unpacked_goes_and_what_was_there_stays(tmp_path: Path, outputs: JsonMap | None) -> None:
    unpacked(tmp_path, EARLIER, OWN, LINKED)
    linked(tmp_path, "keystone", LINKED)
    (tmp_path / "releases" / ".fetch-0a").write_bytes(b"half of it")
    assert undo(tmp_path, outputs=outputs) == {"changed": [OWN]}
    assert there(tmp_path) == [LINKED, EARLIER]
    assert undo(tmp_path, outputs=outputs) == {"changed": []}


@pytest.mark.parametrize("identity", [EARLIER, LINKED])
def test_a_release_that_was_there_or_that_links_of_before_lead_to_stays(tmp_path: Path, identity: str) -> None:
    unpacked(tmp_path, EARLIER, LINKED)
    linked(tmp_path, "keystone", LINKED)
    assert undo(tmp_path, outputs={"identity": identity, "changed": []}) == {"changed": []}
    assert there(tmp_path) == [LINKED, EARLIER]


@pytest.mark.parametrize("outputs", [{"identity": OWN, "changed": [OWN]}, None], ids=["done", "open"])
def test_an_unpacking_that_goes_on_is_waited_for(tmp_path: Path, outputs: JsonMap | None) -> None:
    unpacked(tmp_path, EARLIER, OWN)
    held = tmp_path / "releases" / ".lock"
    script = 'echo held; read -r _; rm -r "$1/.fetch-0a"'
    command = ["flock", str(held), "sh", "-c", script, "sh", str(held.parent)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as fetch,
        ThreadPoolExecutor(1) as pool,
    ):
        assert fetch.stdin is not None
        assert fetch.stdout is not None
        assert fetch.stdout.readline() == b"held\n"
        (held.parent / ".fetch-0a").write_bytes(b"half of it")
        undoing = pool.submit(undo, tmp_path, outputs=outputs)
        with pytest.raises(TimeoutError):
            undoing.result(timeout=1)
        fetch.communicate(b"\n")
        assert undoing.result() == {"changed": [OWN]}
    assert there(tmp_path) == [EARLIER]


def test_who_waited_for_long_enough_says_what_for(tmp_path: Path) -> None:
    unpacked(tmp_path, EARLIER)
    with (tmp_path / "releases" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Busy, match="another process works in"):
            ensure_only(cast(RemoteHost, Computer(tmp_path)), [EARLIER], wait_s=0.1)


def test_an_interrupted_first_installation_leaves_nothing(tmp_path: Path) -> None:
    unpacked(tmp_path / "opt", OWN)
    assert undo(tmp_path / "opt", outputs=None) == {"changed": [OWN]}
    assert not (tmp_path / "opt").exists()
