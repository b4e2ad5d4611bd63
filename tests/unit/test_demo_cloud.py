"""The demonstration of a cloud says how to use it: last where it stays, and how it would stay where it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import levier.cli  # noqa: F401 - first, for it brings levier.demo along
from levier.demo.cloud import CloudScenario
from levier.demo.scenario import DemoOptions
from levier.demo.shell import Shell, openstack_line
from levier.lab.spec import ChassisKind

WORDS = "--os-cloud demo server list --all-projects"


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the demonstration runs; a rack answers that has no machine."""
    words: list[str] = []

    def query(_: Shell, *__: str) -> Any:
        return {"netns": "levier-demo"}

    monkeypatch.setattr(Shell, "query", query)
    monkeypatch.setattr(Shell, "run", lambda _, *given, **__: words.append(" ".join(given)))
    monkeypatch.setattr(Shell, "openstack", lambda _, *given, **__: words.append(" ".join(given)))
    return words


def scenario(tmp_path: Path, *, keep: bool) -> CloudScenario:
    return CloudScenario(DemoOptions(ChassisKind.NSPAWN, "bios", 3, "debian-12", keep, "demo"), tmp_path)


def test_a_cloud_that_stays_is_left_with_the_command_to_use_it_as_the_last_line(
    tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    left = scenario(tmp_path, keep=True)
    left._use()
    assert capsys.readouterr().out == ""
    left.leave()
    last = capsys.readouterr().out.rstrip("\n").splitlines()[-1]
    program = Path(sys.executable).with_name("openstack")
    assert last == f"  (cd {tmp_path} && ip netns exec levier-demo {program} {WORDS})"
    assert ran[0] == f"cloud access --directory {tmp_path} --name demo"


def test_a_cloud_that_is_taken_down_is_told_how_it_would_stay(
    tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    scenario(tmp_path, keep=False)._use()
    said = capsys.readouterr().out
    assert WORDS in said
    assert "with KEEP=1 (levier demo --keep) it stays" in said


def test_the_line_is_for_any_shell(tmp_path: Path) -> None:
    directory, programs = tmp_path / "with blanks", tmp_path / "programs"
    directory.mkdir()
    programs.mkdir()
    (programs / "ip").write_text('#!/bin/sh\npwd\nfor each in "$@"; do echo "$each"; done\n')
    (programs / "ip").chmod(0o755)
    line = openstack_line("server", "show", "one two", namespace="levier-demo", directory=directory)
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    said = subprocess.run(["sh", "-c", line], cwd="/", env=path, capture_output=True, text=True, check=True).stdout
    assert said.splitlines() == [
        *(str(directory), "netns", "exec", "levier-demo", str(Path(sys.executable).with_name("openstack"))),
        *("server", "show", "one two"),
    ]
