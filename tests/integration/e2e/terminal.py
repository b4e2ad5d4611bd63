"""An operator's terminal: `levier` typed as a person would, and what it answers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
ENDED = {"succeeded", "rolled_back", "held", "needs_operator", "cancelled"}
PATIENCE_S = 240.0
"""For what takes seconds on an idle machine: the machines that run tests are seldom idle."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Everything that a person at the terminal saw."""
        return self.out + self.err


class Terminal:
    """A shell whose environment names one installation."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = {**os.environ, **environment, "COLUMNS": "200"}

    def run(self, *arguments: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> Answer:
        """`levier ARGUMENTS` ran to its end."""
        done = subprocess.run(
            self.argv(*arguments),
            env=self.environment,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def ok(self, *arguments: str, stdin: str = "", timeout_s: float = PATIENCE_S) -> str:
        """What the command printed; it succeeded."""
        answer = self.run(*arguments, stdin=stdin, timeout_s=timeout_s)
        assert answer.status == 0, f"levier {' '.join(arguments)} ended with {answer.status}:\n{answer.text[-3000:]}"
        return answer.out

    def json(self, *arguments: str, timeout_s: float = PATIENCE_S) -> Any:
        """The command's answer for programs; it succeeded."""
        return json.loads(self.ok(*arguments, "--json", timeout_s=timeout_s))

    def begin(self, *arguments: str) -> subprocess.Popen[str]:
        """The command runs, in a process group of its own, as a shell's foreground job does."""
        return subprocess.Popen(
            self.argv(*arguments),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            process_group=0,
        )

    @staticmethod
    def ctrl_c(job: subprocess.Popen[str]) -> Answer:
        """What the job printed in all after the terminal's Ctrl-C reached its process group."""
        os.killpg(job.pid, signal.SIGINT)
        return Terminal.ended(job)

    @staticmethod
    def ended(job: subprocess.Popen[str]) -> Answer:
        """What the job printed in all until it ended."""
        out, _ = job.communicate(timeout=PATIENCE_S)
        return Answer(job.returncode, out, "")

    @staticmethod
    def argv(*arguments: str) -> list[str]:
        """The command line of `levier ARGUMENTS`."""
        return [sys.executable, "-m", "levier", *arguments]


def until(condition: Callable[[], T | None], *, what: str, timeout_s: float = PATIENCE_S, every_s: float = 0.1) -> T:
    """The first result of `condition` that is neither None nor False; it is looked at after the deadline once more."""
    deadline = time.monotonic() + timeout_s
    while True:
        late = time.monotonic() >= deadline  # before the look: this computer may stand still between two looks
        result = condition()
        if result is not None and result is not False:
            return result
        assert not late, f"not within {timeout_s:g} s: {what}"
        time.sleep(every_s)
