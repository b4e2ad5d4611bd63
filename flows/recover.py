"""Recover: operations whose worker died go on, or are undone."""

from __future__ import annotations

from typing import Annotated

from prefect import flow, get_run_logger
from pydantic import Field

from tasks.recovery import execute, look

DryRun = Annotated[bool, Field(description="Only say what would be done.")]


@flow(name="recover", persist_result=False)
def recover(dry_run: DryRun = False) -> None:
    """Compare the step log with what really runs; resume or unwind what was interrupted."""
    actions = look()
    for action in actions:
        get_run_logger().info("%s: %s (%s)", action.operation, action.verb.value, action.reason)
    if actions and not dry_run:
        for done in execute(actions):
            get_run_logger().info("%s: %s", done["operation"], done["done"])
