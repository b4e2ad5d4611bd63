"""Booting machines while the boot service has no database: they wait, are told 503, ask again, and lose nothing."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from levier.domain.netboot import AgentAction, BootPurpose
from levier.saga.store_patience import StorePatience
from levier.services.boot import BootEntries
from levier.store import migrate
from levier.store.base import open_engine
from tests.integration.netboot.boot_service import BootFiles, BootServer, entries, services, worker_of
from tests.integration.netboot.playing_agent import MAC, PlayingAgent
from tests.integration.postgres_server import PostgresServer
from tests.integration.store_outages import SilentCommit

NODE = "a1-01"


class Away:
    """The boot service's patience: an outage that ends at the second look in vain, or does not."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server
        self.looks = 0
        self.ends = True

    def wait(self, _seconds: float) -> bool:
        self.looks += 1
        if self.looks == 2 and self.ends:
            self.server.start()
        return self.looks >= 2 and not self.ends

    def begin(self, *, ends: bool) -> None:
        self.looks, self.ends = 0, ends
        self.server.stop()


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


def published(url: str) -> BootEntries:
    migrate.upgrade(open_engine(url))
    runner = entries(url)
    runner.publish(
        node=NODE, mac=MAC, by=worker_of("op1"), purpose=BootPurpose.DEPLOY, address="10.77.0.11", hostname=NODE
    )
    return runner


def test_every_request_outlasts_an_outage(database: PostgresServer, tmp_path: Path) -> None:
    url = database.url(database.new_database())
    runner, away = published(url), Away(database)
    served = services(url, BootFiles.made_in(tmp_path), patience=StorePatience(wait=away.wait))
    with BootServer(served) as running:
        agent = PlayingAgent(running.url)
        away.begin(ends=True)
        token = agent.token()
        away.begin(ends=True)
        assert agent.claim(token).status_code == 200
        runner.instruct(node=NODE, by=worker_of("op1"), action=AgentAction.REBOOT)
        away.begin(ends=True)
        assert agent.next().text == "action=reboot\n"
        away.begin(ends=True)
        assert agent.report("reboot", "started").status_code == 200
        # In here: the server was started by a thread of the boot service, and ends with it.
        assert [r.report.stage for r in runner.reports(NODE)] == ["reboot"]


def test_a_request_that_waited_too_long_is_asked_again(database: PostgresServer, tmp_path: Path) -> None:
    url = database.url(database.new_database())
    runner, away = published(url), Away(database)
    served = services(url, BootFiles.made_in(tmp_path), patience=StorePatience(wait=away.wait))
    with BootServer(served) as running:
        agent = PlayingAgent(running.url)
        token = agent.token()
        away.begin(ends=False)
        refused = agent.claim(token)
        assert refused.status_code == 503
        assert "database" in refused.text
        database.start()
        assert agent.claim(token).status_code == 200, "the token was not used up by the attempt"
    view = runner.get(NODE)
    assert view is not None
    assert view.claims == 1


def test_a_commit_whose_answer_was_lost(database: PostgresServer, tmp_path: Path) -> None:
    name = database.new_database()
    runner = published(database.url(name))
    with tempfile.TemporaryDirectory(prefix="levier-silent-") as folder:
        silent = SilentCommit(database, name, Path(folder))
        with BootServer(services(silent.url, BootFiles.made_in(tmp_path))) as running:
            agent = PlayingAgent(running.url)
            silent.arm()
            token = agent.token()
            silent.arm()
            assert agent.claim(token).status_code == 200
            runner.instruct(node=NODE, by=worker_of("op1"), action=AgentAction.REBOOT)
            assert agent.next().status_code == 200
            assert agent.claim(token).status_code == 403, "the token still works once"
        silent.remove()
        assert silent.lost == 2
    view = runner.get(NODE)
    assert view is not None
    assert (view.script_fetches, view.claims) == (1, 1)
    with open_engine(database.url(name)).connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM boot_token")) == 1
