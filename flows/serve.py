"""The runner: registers the deployments, then executes flow runs, each in a process of its own.

It is a Prefect process worker, so that any number of them may share the work, and it is crash-only: told to stop, it
ends its flow runs at once, and the next start takes them up again, by the same path as after a kill -9.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from uuid import UUID

import anyio.abc
import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_logger
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows.adoption import Adoption, RunnerView
from flows.deployments import POOL, DeploymentEntry, default_file, ensure_work_pool, load, read_file, register
from flows.disagreement import Disagreement
from flows.engine import RUNNER_PID
from levier.domain.errors import LevierError

SWEEP_INTERVAL_S = 2.0
_log = get_logger("levier.runner")


class LevierWorker(ProcessWorker):
    """Prefect's process worker that also knows which runs it has processes for."""

    type = ProcessWorker.type

    def __init__(self, *, name: str, limit: int, queues: list[str] | None) -> None:
        super().__init__(work_pool_name=POOL, name=name, limit=limit, work_queues=queues)
        self.live: Counter[UUID] = Counter()
        """Processes by run: one that was stopped and one that replaced it may be of the same run."""
        self.killed: set[UUID] = set()

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """The flow run's process ended. A death by signal is remembered, so that the run is taken up again."""
        self.live[flow_run.id] += 1
        self.killed.discard(flow_run.id)
        try:
            result = await super().run(flow_run, configuration, task_status)
            if result.status_code < 0:
                self.killed.add(flow_run.id)
            return result
        finally:
            self.live[flow_run.id] -= 1

    def view(self) -> RunnerView:
        """What adoption needs to know of this worker now; a run it is just submitting counts as live."""
        return RunnerView(self.name, frozenset({*(+self.live), *self._submitting_flow_run_ids}), frozenset(self.killed))


async def serve(*, name: str, limit: int, queues: list[str] | None, deployments: Path, ready_file: Path | None) -> None:
    """Deployments are registered and flow runs executed until this process is told to stop.

    Runs that an earlier runner of this name left go on first of all: registering imports all of Levier, and they were
    registered by that one. Raises InvalidRequest for a faulty `deployments` file.
    """
    entries = read_file(deployments)
    await ensure_work_pool()
    worker = LevierWorker(name=name, limit=limit, queues=queues)
    started = asyncio.Event()
    async with get_client() as client, asyncio.TaskGroup() as group:
        adoption, disagreement = Adoption(POOL, client), Disagreement(POOL, client, _recover_now)
        await adoption.sweep(RunnerView(name), confirm=False)
        _stop_on_sigterm(worker)
        group.create_task(worker.start(printer=lambda *_: started.set()))
        await _register(entries)
        await started.wait()
        if ready_file is not None:
            ready_file.write_text(f"{os.getpid()}\n")
        group.create_task(_sweep_for_ever(adoption, disagreement, worker))


async def _register(entries: list[DeploymentEntry]) -> None:
    """Every entry is a deployment on the server. The flows are imported in a thread: runs are taken meanwhile."""
    await asyncio.to_thread(lambda: [load(entry) for entry in entries])
    for full_name, identity in (await register(entries)).items():
        _log.info("deployment %s is %s", full_name, identity)


def _recover_now(but: Collection[str]) -> list[str]:
    """See tasks.recovery; imported where it is needed, because it brings all of Levier along."""
    from tasks.recovery import recover_now

    return recover_now(but)


async def _sweep_for_ever(adoption: Adoption, disagreement: Disagreement, worker: LevierWorker) -> None:
    """Runs that lost their process go on, and operations whose run ended under them are recovered: first thing, too."""
    while True:
        try:
            done = await adoption.sweep(worker.view(), confirm=True)
            worker.killed.difference_update(done)
            await disagreement.sweep(adopting=worker.killed | adoption.suspects)
        except httpx.HTTPError as error:
            _log.warning("the Prefect server does not answer the sweep for lost runs: %s", error)
        except LevierError as error:
            _log.warning("recovery cannot be planned: %s", error)
        await asyncio.sleep(SWEEP_INTERVAL_S)


def _stop_on_sigterm(worker: LevierWorker) -> None:
    def stop(signum: int) -> None:
        _log.info(
            "told to stop by %s; %d flow runs go on at the next start", signal.Signals(signum).name, worker.live.total()
        )
        # Every flow process is killed by the kernel together with this one (flows.engine). Prefect's own ending
        # would wait up to 30 s for each and then report them Crashed.
        os._exit(0)

    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop, signum)


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=__doc__)
    parser.add_argument(
        "--name", default=f"levier-{socket.gethostname()}", help="name of this runner, stable over restarts"
    )
    parser.add_argument("--limit", type=int, default=10, help="flow runs at the same time")
    parser.add_argument("--queue", action="append", help="work queue to serve (repeatable); all by default")
    parser.add_argument(
        "--deployments",
        type=Path,
        default=os.environ.get("LEVIER_DEPLOYMENTS"),
        help="prefect.yaml to register; $LEVIER_DEPLOYMENTS or the installation's own by default",
    )
    parser.add_argument("--ready-file", type=Path, help="written when flow runs are being taken")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The runner ran until it was told to stop; 2 when it could not start for a reason it named."""
    arguments = _arguments(argv)
    os.environ[RUNNER_PID] = str(os.getpid())
    # `python` in the work pool's command is this interpreter, wherever it is installed.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    status = 0
    try:
        asyncio.run(
            serve(
                name=arguments.name,
                limit=arguments.limit,
                queues=arguments.queue,
                deployments=arguments.deployments or default_file(),
                ready_file=arguments.ready_file,
            )
        )
    except* LevierError as errors:
        for error in errors.exceptions:
            print(f"{error}\n{getattr(error, 'hint', '')}".strip(), file=sys.stderr)
        status = 2
    return status


if __name__ == "__main__":
    sys.exit(main())
