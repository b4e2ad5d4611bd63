"""Horizon's static files: a directory for each release, so that each release runs with its own."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.unit.components.sites import TWO_ZONES, rendered, site_in

HORIZON = rendered(site_in(TWO_ZONES), "a1-01", "horizon")
STATIC = next(each for each in HORIZON.actions if each.name == "static-files")
PYTHON = """#!/bin/sh
own=$(readlink -f {root}/current) && static={root}/static/${{own##*/}}
case "$*" in *collectstatic*) rm -rf "$static"; mkdir "$static"; echo "${{own##*/}}" > "$static/file" ;; esac
"""


class Host:
    """A host's directories, elsewhere."""

    def __init__(self, root: Path) -> None:
        self._root = root
        for each in ("static", "releases", "run", "local"):
            (root / each).mkdir()
        self.settings = root / "local" / "local_settings.py"
        text = next(each.content for each in HORIZON.files if each.path.endswith("local_settings.py"))
        self.settings.write_text(self._here(text))
        os.utime(self.settings, (1, 1))

    def turn(self, release: str) -> None:
        """That release is there, and the one in use."""
        python = self._root / "releases" / release / "bin" / "python"
        if not python.exists():
            python.parent.mkdir(parents=True)
            python.write_text(PYTHON.format(root=self._root))
            python.chmod(0o755)
        (self._root / "current").unlink(missing_ok=True)
        (self._root / "current").symlink_to(f"releases/{release}")

    def succeeds(self, command: Sequence[str]) -> bool:
        return subprocess.run([self._here(word) for word in command], check=False).returncode == 0

    def start(self) -> str:
        """The unit's preparation; which release's files it serves then."""
        unit = next(each.content for each in HORIZON.files if each.path.endswith("levier-horizon.service"))
        (line,) = [each for each in unit.splitlines() if each.startswith("ExecStartPre=")]
        assert "--static-map /static=/run/levier-horizon/static " in unit
        assert self.succeeds(shlex.split(line.partition("=")[2].replace("$$", "$")))
        return (self._root / "run" / "static" / "file").read_text().strip()

    @property
    def made(self) -> set[str]:
        return {each.name for each in (self._root / "static").iterdir()}

    def _here(self, text: str) -> str:
        places = {"/opt/levier/current/horizon": "current", "/var/lib/horizon/static": "static"}
        places |= {"/run/levier-horizon": "run", "/etc/levier/horizon/local": "local"}
        for place, own in places.items():
            text = text.replace(place, str(self._root / own))
        return text


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def make(host: Host) -> bool:
    """As the step does; whether it had to act."""
    assert STATIC.done_when is not None
    if host.succeeds(STATIC.done_when):
        return False
    assert host.succeeds(STATIC.command)
    assert host.succeeds(STATIC.done_when)
    return True


def test_the_earlier_release_finds_its_own_files_after_a_change_of_release_was_undone(host: Host) -> None:
    host.turn("one")
    assert make(host)
    assert host.start() == "one"
    host.turn("two")
    assert make(host)
    assert host.start() == "two"
    host.turn("one")
    assert host.start() == "one"
    assert not make(host)


def test_what_is_made_is_where_horizon_looks(host: Host) -> None:
    host.turn("one")
    make(host)
    settings: dict[str, Any] = {}
    exec(compile(host.settings.read_text(), "local_settings", "exec"), settings)
    assert (Path(settings["STATIC_ROOT"]) / "file").read_text() == "one\n"


def test_settings_that_changed_make_them_anew_and_a_release_that_is_gone_leaves_none(host: Host) -> None:
    host.turn("one")
    make(host)
    host.turn("two")
    make(host)
    (host.settings.parent.parent / "releases" / "one").rename(host.settings.parent.parent / "one")
    assert host.made == {"one", "two"}
    assert not make(host)
    later = os.stat(host.settings).st_mtime + 2**31
    os.utime(host.settings, (later, later))
    assert STATIC.done_when is not None
    assert not host.succeeds(STATIC.done_when)
    assert host.succeeds(STATIC.command)
    assert host.made == {"two"}
