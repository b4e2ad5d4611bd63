"""Nodes handled together: each goes through its steps, and on failure back, without regard to its siblings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from prefect import flow, get_run_logger

from levier.domain.errors import LeaseLost, LevierError
from levier.services.operation_run import OperationRun
from tasks.operations import running
from tasks.steps import DO, UNDO


@flow(name="wave", flow_run_name="{operation} wave {number}", validate_parameters=False, persist_result=False)
async def wave(operation: str, number: int, nodes: list[str], parallel: int) -> None:
    """Every node of the wave is through its steps, or undone; `parallel` of them at a time."""
    run = running(operation)
    await _each(nodes, parallel, lambda node: forward(run, node))


@flow(name="unwinding", flow_run_name="{operation} unwinding", validate_parameters=False, persist_result=False)
async def unwinding(operation: str, nodes: list[str], parallel: int) -> None:
    """Every node is undone as far as that is possible; `parallel` of them at a time."""
    run = running(operation)
    await _each(nodes, parallel, lambda node: backward(run, node))


async def _each(nodes: list[str], parallel: int, work: Callable[[str], Awaitable[None]]) -> None:
    limit = asyncio.Semaphore(parallel)

    async def one(node: str) -> None:
        async with limit:
            await work(node)

    results = await asyncio.gather(*(one(node) for node in nodes), return_exceptions=True)
    # Every node has come to its end before the first defect or lost lease is raised.
    for result in results:
        if isinstance(result, BaseException):
            raise result


async def forward(run: OperationRun, node: str) -> None:
    """The node is through its steps, or undone because one failed or because the operation was cancelled."""
    logger = get_run_logger()
    for step in await run.call(run.steps_of, node):
        if await run.call(run.cancel_requested):
            logger.warning("%s: cancelled before %s; undoing", node, step.name)
            return await backward(run, node)
        try:
            await DO[step.name](run, node)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001 - a defect in a step fails its node as well, and is undone as well
            logger.error("%s: %s failed: %s; undoing this node", node, step.name, error)
            return await backward(run, node)
    await run.call(run.release, node)
    return None


async def backward(run: OperationRun, node: str) -> None:
    """Nothing of the operation stands on the node, or what cannot be undone is in the log with both errors."""
    logger = get_run_logger()
    plan = await run.call(run.unwind_plan, node)
    if plan:
        await run.call(run.hold, node)  # a node that was ready had its lease released
    for step in plan:
        try:
            if run.acts_on_undo(step):
                await UNDO[step.name](run, node)
            else:
                await run.call(run.undo, step, node)
        except LeaseLost:
            raise
        except LevierError as error:
            logger.error("%s: %s; the node keeps its lease until an operator decides", node, error)
            return
    await run.call(run.release, node)
