"""The process of one flow run: Prefect's engine, tied to the life of the runner that started it.

Prefect's own engine process outlives a killed runner by 17-30 s, goes on commanding machines meanwhile, and at its end
writes Crashed over the state of the attempt that replaced it (docs/decisions/0082). This one dies with its runner.
"""

from __future__ import annotations

import os
import runpy

from levier.collection import collect_seldom
from levier.supervisor.lineage import die_with_parent

RUNNER_PID = "LEVIER_RUNNER_PID"
"""Environment variable with the pid of the runner."""


def main() -> None:
    """The flow run named by `PREFECT__FLOW_RUN_ID` was executed, or ended together with its runner."""
    parent = os.environ.get(RUNNER_PID)
    die_with_parent(int(parent) if parent else None)
    collect_seldom()
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
