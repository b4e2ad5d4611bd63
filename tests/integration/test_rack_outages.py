"""A whole expand on the stub rack, over a PostgreSQL that is killed again and again: the ledger and the log agree."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from levier.services.patience import Patience
from tests.integration.postgres_server import PostgresServer
from tests.rig.levier_in_process import LevierInProcess, Verdict, levier_in_process

NODES = 3
OUTAGES = 6
HELD_S = 1.5
"""How long each outage lasts once the worker has been seen to wait: several of its looks."""
# Machines boot quickly here and are not what is tested; a busy machine may be slow.
PATIENCE = Patience(power_timeout_s=30.0, first_sign_timeout_s=60.0, silence_timeout_s=30.0, host_timeout_s=60.0)


class Expanding(threading.Thread):
    """An expand of all nodes, and what its worker tells."""

    def __init__(self, levier: LevierInProcess) -> None:
        super().__init__(name="expand")
        self._levier = levier
        self.told: list[str] = []
        self.verdict: Verdict | None = None

    def run(self) -> None:
        self.verdict = self._levier.operate("expand", tell=self.told.append)

    def waits(self, times: int) -> bool:
        return sum(line.startswith("waiting") for line in self.told) >= times

    def back(self, times: int) -> bool:
        return sum("is back" in line for line in self.told) >= times


def until(condition: Callable[[], bool], what: str, *, timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.01)  # between two looks


def test_an_expand_over_a_database_that_is_killed_again_and_again(tmp_path: Path) -> None:
    server = PostgresServer()
    try:
        server.start()
        url = server.url(server.new_database())
        with levier_in_process(tmp_path, nodes=NODES, patience=PATIENCE, database_url=url) as levier:
            expanding = Expanding(levier)
            expanding.start()
            until(lambda: _commands(levier) > 0, "the first command")
            struck = 0
            while expanding.is_alive() and struck < OUTAGES:
                if _outage(server, expanding, struck + 1, levier):
                    struck += 1
            expanding.join(120)
            assert expanding.verdict is not None
            assert expanding.verdict.state == "succeeded", expanding.verdict.settlement.reason
            assert struck >= 2
            _agree(levier, expanding.verdict)
    finally:
        server.remove()


def _outage(server: PostgresServer, expanding: Expanding, number: int, levier: LevierInProcess) -> bool:
    """The server was killed, the worker waited and commanded nothing, the server is back and the worker goes on."""
    server.stop(signal.SIGKILL)
    until(lambda: expanding.waits(number) or not expanding.is_alive(), "the worker to wait")
    before = _commands(levier)
    time.sleep(HELD_S)  # the outage itself
    after = _commands(levier)
    server.start()
    if not expanding.is_alive():
        return False
    assert after - before <= NODES, "at most the one packet a node that had been permitted when the server died"
    until(lambda: expanding.back(number), "the worker to go on")
    return True


def _commands(levier: LevierInProcess) -> int:
    return len([e for e in levier.rack.events() if e.kind == "bmc-command"])


def _agree(levier: LevierInProcess, verdict: Verdict) -> None:
    truth = levier.rack.status()["nodes"]
    assert [(n["image_writes"], n["power"]) for n in truth] == [(1, "on")] * NODES, "no write was repeated"
    commands = [e for e in levier.rack.events() if e.kind == "bmc-command" and e.detail["name"] == "Chassis Control"]
    assert sorted(e.node for e in commands) == sorted(n["name"] for n in truth), "no command was repeated"
    assert {s.state.value for s in verdict.status.steps} == {"succeeded"}
    seqs = [e.seq for e in _events(levier, verdict)]
    assert seqs == list(range(1, len(seqs) + 1)), "no event is missing or doubled"
    again = {(s.step, s.target): s.attempts for s in verdict.status.steps if s.attempts > 1}
    print(f"told: {len(levier.rack.events())} ledger events; steps tried again: {again}")


def _events(levier: LevierInProcess, verdict: Verdict) -> list[object]:
    operation, steps = levier.services.operations._verbs._verbs.history(verdict.status.id)
    return sorted([*operation, *steps], key=lambda e: e.seq)
