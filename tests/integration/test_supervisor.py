"""The supervisor with real processes: order, readiness, restarts, logs, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from levier.supervisor.core import StartFailed, Supervisor
from levier.supervisor.lineage import boot_id, identity_of, marked
from levier.supervisor.spec import FileReady, HttpReady, ProcessSpec, RestartPolicy
from levier.supervisor.statedir import Phase, ProcessRecord, ProcessState, Record, StateDir, load_record
from tests.integration.prefect_server import free_port

QUICK = RestartPolicy(first_s=0.05, max_s=0.2)


def python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


def touching(path: Path, then: str = "import signal; signal.pause()") -> tuple[str, ...]:
    return python(f"import os, pathlib; pathlib.Path({str(path)!r}).touch(); {then}")


class Installation:
    """A supervisor over `specs`, run inside the test."""

    def __init__(self, directory: Path, *specs: ProcessSpec) -> None:
        self.state_dir = StateDir(directory)
        self.state_dir.create()
        now = datetime.now(UTC)
        own = identity_of(os.getpid())
        assert own is not None
        self.record = Record(
            mark=f"test-{os.getpid()}-{time.monotonic_ns()}",
            boot_id=boot_id(),
            supervisor_pid=own.pid,
            supervisor_ticks=own.started_ticks,
            started=now,
            ports={},
            urls={},
            stop_timeout_s=10,
            processes={s.name: ProcessRecord(since=now, log=str(self.state_dir.log(s.name))) for s in specs},
        )
        self.history: list[tuple[str, str]] = []
        self.specs = specs

    def run(self, during: Callable[[Installation], Awaitable[None]]) -> None:
        """Start, wait until everything is ready, run `during`, stop; no marked process is left."""
        asyncio.run(self._run(during))

    async def _run(self, during: Callable[[Installation], Awaitable[None]]) -> None:
        supervisor = Supervisor(
            self.specs, state_dir=self.state_dir, record=self.record, on_change=lambda _: self._remember()
        )
        running = asyncio.create_task(supervisor.run())
        try:
            await self.until(lambda: self.record.phase is Phase.RUNNING or running.done())
            if not running.done():
                await during(self)
        finally:
            supervisor.stop()
            await running
            assert list(marked(self.record.mark)) == []

    def _remember(self) -> None:
        for name, entry in self.record.processes.items():
            if (name, entry.state.value) not in self.history[-len(self.specs) :]:
                self.history.append((name, entry.state.value))

    def pid(self, name: str) -> int:
        pid = self.record.processes[name].pid
        assert pid is not None
        return pid

    def state(self, name: str) -> ProcessState:
        return self.record.processes[name].state

    @staticmethod
    async def until(condition: Callable[[], object], timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.02)


async def nothing(_installation: Installation) -> None:
    """Everything became ready; that is all."""


def test_processes_start_after_what_they_need_and_stop_before_it(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, pathlib\n"
        "def end(*_):\n"
        "    open({order!r}, 'a').write('stop {name}\\n'); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "open({order!r}, 'a').write('start {name}\\n'); pathlib.Path({ready!r}).touch()\n"
        "while True: signal.pause()"
    )

    def spec(name: str, *needs: str) -> ProcessSpec:
        ready = tmp_path / f"{name}.ready"
        argv = python(code.format(order=str(order), name=name, ready=str(ready)))
        return ProcessSpec(name, argv, ready=FileReady(ready), depends_on=needs)

    Installation(tmp_path / "s", spec("c", "b"), spec("a"), spec("b", "a")).run(nothing)
    assert order.read_text().split("\n")[:6] == ["start a", "start b", "start c", "stop c", "stop b", "stop a"]


def test_ready_means_that_the_address_answers_200(tmp_path: Path) -> None:
    port = free_port()
    code = (
        "import http.server, os, time\n"
        "began = time.monotonic()\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200 if time.monotonic() - began > 1 else 503); self.end_headers()\n"
        f"http.server.HTTPServer(('127.0.0.1', {port}), H).serve_forever()"
    )
    web = ProcessSpec("web", python(code), ready=HttpReady(f"http://127.0.0.1:{port}/"))
    began = time.monotonic()

    async def check(installation: Installation) -> None:
        assert time.monotonic() - began > 1
        assert installation.state("web") is ProcessState.READY

    Installation(tmp_path, web).run(check)


def test_a_killed_process_and_what_it_started_are_replaced(tmp_path: Path) -> None:
    ready, grandchild = tmp_path / "ready", tmp_path / "grandchild"
    start_another = "import subprocess, signal; p = subprocess.Popen(['sleep', '600'], start_new_session=True); "
    start_another += f"open({str(grandchild)!r}, 'w').write(str(p.pid)); signal.pause()"
    spec = ProcessSpec("p", touching(ready, start_another), ready=FileReady(ready), restart=QUICK)

    async def check(installation: Installation) -> None:
        await installation.until(lambda: grandchild.exists() and grandchild.read_text())
        first, orphan = installation.pid("p"), int(grandchild.read_text())
        os.kill(first, signal.SIGKILL)
        await installation.until(lambda: installation.state("p") is ProcessState.BACKING_OFF)
        assert identity_of(orphan) is None
        await installation.until(lambda: installation.state("p") is ProcessState.READY)
        assert installation.pid("p") != first
        assert installation.record.processes["p"].restarts == 1
        assert installation.record.processes["p"].last_exit == "killed by SIGKILL"
        on_disk = load_record(installation.state_dir)
        assert on_disk is not None
        assert on_disk.processes["p"].pid == installation.pid("p")

    Installation(tmp_path, spec).run(check)


def test_a_process_that_cannot_start_ends_the_start_and_its_words_are_in_its_log(tmp_path: Path) -> None:
    good = ProcessSpec("good", touching(tmp_path / "g"), ready=FileReady(tmp_path / "g"))
    bad = ProcessSpec(
        "bad", python("print('no such disk'); raise SystemExit(7)"), ready=HttpReady("http://127.0.0.1:9/")
    )
    bad = ProcessSpec(bad.name, bad.argv, ready=bad.ready, restart=QUICK)
    installation = Installation(tmp_path, good, bad)
    with pytest.raises(StartFailed, match="bad did not start: exited with status 7"):
        installation.run(nothing)
    assert installation.state_dir.log("bad").read_text().splitlines() == ["no such disk"] * QUICK.start_attempts
    assert installation.state("bad") is ProcessState.FAILED


def test_a_process_that_never_becomes_ready_ends_the_start(tmp_path: Path) -> None:
    spec = ProcessSpec(
        "slow", python("import signal; signal.pause()"), ready=FileReady(tmp_path / "never"), start_timeout_s=0.5
    )
    with pytest.raises(StartFailed, match=r"not ready after 0\.5 s"):
        Installation(tmp_path, spec).run(nothing)


def test_one_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        f"import signal, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN); pathlib.Path({str(ready)!r}).touch()\n"
    )
    code += "while True: signal.pause()"
    installation = Installation(tmp_path, ProcessSpec("deaf", python(code), ready=FileReady(ready), stop_timeout_s=0.5))
    installation.run(nothing)
    assert installation.record.processes["deaf"].last_exit == "killed by SIGKILL"


def test_environment_reaches_the_process_but_neither_record_nor_arguments(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = f"import os, signal; open({str(ready)!r}, 'w').write(os.environ['PASSWORD']); signal.pause()"
    spec = ProcessSpec("p", python(code), env={"PASSWORD": "s3cr3t"}, ready=FileReady(ready))

    async def check(installation: Installation) -> None:
        await installation.until(lambda: ready.read_text() == "s3cr3t")
        assert "s3cr3t" not in installation.state_dir.record_file.read_text()
        assert b"s3cr3t" not in Path(f"/proc/{installation.pid('p')}/cmdline").read_bytes()

    assert "s3cr3t" not in repr(spec)
    Installation(tmp_path, spec).run(check)
