"""Running `levier` commands as an operator would, with the command shown before its output."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from levier.cli.output import console
from levier.domain.errors import LevierError


class CommandFailed(LevierError):
    """A command of the demonstration ended with another status than 0."""


@dataclass(frozen=True, slots=True)
class Shell:
    """An operator's shell: the environment that all commands share."""

    environment: Mapping[str, str]

    def run(self, *arguments: str, stdin: str | None = None, check: bool = True) -> int:
        """The command was shown, run, and its output passed on; its exit status. Raises CommandFailed if `check`."""
        console.rule(f"[bold]$ levier {' '.join(arguments)}", align="left", style="dim")
        sys.stdout.flush()
        done = subprocess.run(
            _argv(arguments), env=self._environment(), input=stdin, text=True, check=False, start_new_session=False
        )
        if check and done.returncode != 0:
            raise CommandFailed(f"`levier {' '.join(arguments)}` ended with status {done.returncode}")
        return done.returncode

    def openstack(self, *arguments: str, namespace: str, directory: Path) -> None:
        """The command of the cloud's users was shown and run in the rack's network, with the clouds.yaml there.

        Raises CommandFailed when it failed.
        """
        words = " ".join(arguments)
        console.rule(
            f"[bold]$ ip netns exec {namespace} openstack {words}[/]  (in {directory})", align="left", style="dim"
        )
        sys.stdout.flush()
        argv = _openstack(arguments, namespace)
        done = subprocess.run(argv, env=self._environment(), cwd=directory, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"`openstack {words}` ended with status {done.returncode}")

    def query(self, *arguments: str) -> Any:
        """What the command says with `--json`. Raises CommandFailed."""
        argv = [*_argv(arguments), "--json"]
        done = subprocess.run(argv, env=self._environment(), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CommandFailed(f"`levier {' '.join(arguments)} --json` failed: {done.stderr.strip()[-500:]}")
        return json.loads(done.stdout)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, **self.environment}


def openstack_line(*arguments: str, namespace: str, directory: Path) -> str:
    """What `Shell.openstack` runs, as one line for any shell, from any directory. Pure."""
    return f"(cd {shlex.quote(str(directory))} && {shlex.join(_openstack(arguments, namespace))})"


def _openstack(arguments: tuple[str, ...], namespace: str) -> list[str]:
    program = str(Path(sys.executable).with_name("openstack"))
    return ["ip", "netns", "exec", namespace, program, *arguments]


def _argv(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "levier", *arguments]
