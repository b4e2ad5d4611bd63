"""The flows of production with gates: a node stands still at one step until a test opens them.

Only the moment is the tests'. A gate is a step of a node, right after `started` is committed and before anything is
done; the flow, its process, its threads, the log and the machines are the real ones. The file `plan.json` in
`$LEVIER_GATES` names a step for each node; a node at its gate leaves the file `at-NODE` with its process's pid; the
file `open` opens all gates, and so does the end of the worker, because a real step ends as well.
"""

from __future__ import annotations

import functools
import json
import os
import threading
import time
from pathlib import Path
from typing import Any

from flows.expand import expand
from flows.inspect import inspect
from levier.domain.operation import StepEventKind
from levier.services.operation_run import OperationRun
from levier.store.step_log import SqlStepLog

__all__ = ["expand", "inspect"]

GATES = "LEVIER_GATES"
LONGEST_S = 600.0
_ended = threading.Event()


def _wait(directory: Path, node: str) -> None:
    (directory / f"at-{node}").write_text(str(os.getpid()))
    deadline = time.monotonic() + LONGEST_S
    while not (directory / "open").exists() and time.monotonic() < deadline:
        if _ended.wait(0.02):
            return


def _install(directory: Path) -> None:
    append, close = SqlStepLog.append, OperationRun.close

    @functools.wraps(append)
    def gated(self: SqlStepLog, fence: Any, *, step: str, target: str, kind: StepEventKind, **rest: Any) -> Any:
        event = append(self, fence, step=step, target=target, kind=kind, **rest)
        plan = directory / "plan.json"
        if kind is StepEventKind.STARTED and plan.exists() and json.loads(plan.read_text()).get(target) == step:
            _wait(directory, target)
        return event

    @functools.wraps(close)
    def closed(self: OperationRun) -> None:
        close(self)
        _ended.set()

    SqlStepLog.append, OperationRun.close = gated, closed  # type: ignore[method-assign]


if os.environ.get(GATES):
    _install(Path(os.environ[GATES]))
