"""One Prefect task per step: the person at the UI sees and can read each of them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun

from levier.domain.errors import LevierError
from levier.saga.step import Step, should_retry
from levier.services.context import NodeContext
from levier.services.operation_run import OperationRun

DELAYS_S = [2.0, 4.0, 8.0, 16.0]
"""Before the second, third … attempt. Whether there is one is decided by the class of the error."""

StepTask = Task[[OperationRun, str], Coroutine[Any, Any, None]]


def _worth_repeating(step: Step[NodeContext]) -> Callable[..., Coroutine[Any, Any, bool]]:
    async def decide(_task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
        try:
            await state.aresult()
        except LevierError as error:
            return should_retry(step, error, task_run.run_count) is not None
        except Exception:  # noqa: BLE001 - a defect is not mended by repeating it; the state keeps the exception
            return False
        return False

    return decide


def do_task(step: Step[NodeContext]) -> StepTask:
    """The Prefect task that does `step` on one node, with the retries that the step asks for."""

    # A cached or persisted result would skip a second reboot (field notes on Prefect).
    @task(
        name=step.name,
        description=step.title,
        task_run_name=f"{step.name} {{node}}",
        tags=["step"],
        retries=len(DELAYS_S),
        retry_delay_seconds=DELAYS_S,
        retry_condition_fn=_worth_repeating(step),
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    async def do(run: OperationRun, node: str) -> None:
        outputs = await run.call(run.do, step, node)
        get_run_logger().info("%s: %s", node, ", ".join(f"{k}={v}" for k, v in outputs.items() if _short(v)) or "done")

    return do


def undo_task(step: Step[NodeContext]) -> StepTask:
    """The Prefect task that undoes `step` on one node."""

    @task(
        name=f"undo {step.name}",
        description=f"Undo: {step.title}",
        task_run_name=f"undo {step.name} {{node}}",
        tags=["undo"],
        retries=len(DELAYS_S),
        retry_delay_seconds=DELAYS_S,
        retry_condition_fn=_worth_repeating(step),
        cache_policy=NO_CACHE,
        persist_result=False,
    )
    async def undo(run: OperationRun, node: str) -> None:
        await run.call(run.undo, step, node)

    return undo


def _short(value: object) -> bool:
    return isinstance(value, str | int | float | bool) and len(str(value)) <= 80


_TASKS: dict[tuple[str, str], StepTask] = {}


def doing(step: Step[NodeContext]) -> StepTask:
    """The task that does the step: one for each step of a process."""
    return _TASKS.setdefault(("do", step.name), do_task(step))


def undoing(step: Step[NodeContext]) -> StepTask:
    """The task that undoes the step: one for each step of a process."""
    return _TASKS.setdefault(("undo", step.name), undo_task(step))
