"""The boot service over HTTP: a real server, a real client, the database in between, on both kinds of database."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from sqlalchemy import text

from levier.domain.errors import Conflict, InvalidRequest, LeaseLost, NotFound, OutcomeUnknown, Rejected
from levier.domain.netboot import AgentAction, BootPurpose, ImageRef
from levier.services.boot import BootEntries
from levier.services.boot_wait import BootPatience
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from tests.integration.netboot.boot_service import HOLD_S, BootFiles, BootServer, entries, services, worker_of
from tests.integration.netboot.playing_agent import MAC, PlayingAgent, pairs

SEED = b"ssh_host_ed25519_key: " + os.urandom(64).hex().encode()
SOON = BootPatience(first_sign_s=20, silence_s=20, poll_s=0.05)


@pytest.fixture
def files(tmp_path: Path) -> BootFiles:
    return BootFiles.made_in(tmp_path)


@pytest.fixture
def server(database_url: str, files: BootFiles) -> Iterator[BootServer]:
    with BootServer(services(database_url, files)) as running:
        yield running


@pytest.fixture
def runner(database_url: str) -> BootEntries:
    return entries(database_url)


@pytest.fixture
def agent(server: BootServer) -> PlayingAgent:
    return PlayingAgent(server.url)


def publish(
    runner: BootEntries, *, node: str = "a1-01", operation: str = "op1", mac: str = MAC, last: int = 11
) -> None:
    runner.publish(
        node=node,
        mac=mac,
        by=worker_of(operation),
        purpose=BootPurpose.DEPLOY,
        address=f"10.77.0.{last}",
        hostname=node,
    )


def write(runner: BootEntries, image: ImageRef, *, seed: bytes = SEED, disk: str = "vda") -> bool:
    return runner.instruct_write(node="a1-01", by=worker_of("op1"), disk=disk, image=image, seed=seed)


def test_from_script_to_reboot(runner: BootEntries, agent: PlayingAgent, files: BootFiles, server: BootServer) -> None:
    content = os.urandom(5 * 1024 * 1024 + 3)
    image = files.add_image(content)
    publish(runner)
    assert agent.http.get("/boot.ipxe").text == f"#!ipxe\nchain {server.url}/ipxe/${{netX/mac:hexhyp}} || exit 1\n"
    script = agent.script().text.splitlines()
    assert agent.http.get(script[1].split()[1]).content == files.kernel.read_bytes()
    assert agent.http.get(script[2].split()[3]).content == files.ramdisk.read_bytes()
    agent.boot()
    seen = runner.wait_for("a1-01", "op1", lambda v: v.is_claimed, timeout_s=10, patience=SOON)
    assert seen.inventory is not None
    assert (seen.inventory.serial, seen.inventory.disks[0].size_bytes) == ("LV0001", 4294967296)

    assert write(runner, image)
    told = pairs(agent.next().text)
    assert (told["action"], told["disk"], told["raw_size_bytes"]) == ("write", "vda", str(image.raw_size_bytes))
    assert agent.report("write", "started").text == "ok=1\n"
    assert agent.get(told["image_url"]).content == content
    agent.report("write", "progress", bytes_done=len(content))
    agent.report("write", "done")
    agent.report("verify", "done")
    assert agent.get(told["seed_url"]).content == SEED
    agent.report("seed", "done")
    view = runner.wait_for("a1-01", "op1", lambda v: v.is_written, timeout_s=10, patience=SOON)
    assert [(r.report.stage.value, r.report.state.value) for r in view.reports] == [
        ("write", "started"),
        ("write", "progress"),
        ("write", "done"),
        ("verify", "done"),
        ("seed", "done"),
    ]
    assert view.reports[1].report.bytes_done == len(content)

    runner.instruct(node="a1-01", by=worker_of("op1"), action=AgentAction.REBOOT)
    assert agent.next().text == "action=reboot\n"
    agent.report("reboot", "started")
    assert runner.wait_for("a1-01", "op1", lambda v: v.is_rebooting, timeout_s=10, patience=SOON)
    assert runner.withdraw(node="a1-01", by=worker_of("op1"))


def test_a_machine_without_entry_gets_nothing(agent: PlayingAgent) -> None:
    assert agent.script().status_code == 404
    assert agent.http.get("/ipxe/not-a-mac").status_code == 400
    assert agent.http.get(f"/boot/{'0' * 32}/kernel").status_code == 404
    answer = agent.claim("made-up")
    assert (answer.status_code, "unknown" in pairs(answer.text)["error"]) == (403, True)
    assert agent.http.post("/agent/claim").status_code == 403
    for path in ("/docs", "/openapi.json", "/images/../../etc/passwd"):
        assert agent.http.get(path).status_code in (403, 404)


def test_a_token_works_once(runner: BootEntries, agent: PlayingAgent) -> None:
    publish(runner)
    token = agent.token()
    assert agent.claim(token).status_code == 200
    session = agent.session
    second = agent.claim(token)
    assert second.status_code == 403
    assert "used already" in pairs(second.text)["error"]
    agent.session = session
    assert agent.report("write", "started").status_code == 200


def test_of_many_claims_at_once_one_wins(runner: BootEntries, agent: PlayingAgent, server: BootServer) -> None:
    publish(runner)
    token = agent.token()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: PlayingAgent(server.url).claim(token).status_code, range(8)))
    assert sorted(answers) == [200] + [403] * 7
    view = runner.get("a1-01")
    assert view is not None
    assert view.claims == 1


def test_fetching_the_script_again_ends_the_token_before(runner: BootEntries, agent: PlayingAgent) -> None:
    publish(runner)
    first, second = agent.token(), agent.token()
    refused = agent.claim(first)
    assert refused.status_code == 403
    assert "outdated" in pairs(refused.text)["error"]
    assert agent.claim(second).status_code == 200
    for _ in range(40):
        last = agent.token()
    assert agent.claim(last).status_code == 200


def test_a_new_claim_ends_the_session_before(runner: BootEntries, agent: PlayingAgent, server: BootServer) -> None:
    publish(runner)
    agent.boot()
    PlayingAgent(server.url).boot()
    assert agent.next().status_code == 403
    assert agent.report("write", "started").status_code == 403


def test_withdrawal_ends_everything(
    runner: BootEntries, agent: PlayingAgent, files: BootFiles, database_url: str
) -> None:
    image = files.add_image(b"image")
    publish(runner)
    script = agent.script().text
    agent.boot()
    unused = agent.token()
    write(runner, image)
    assert not runner.withdraw(node="a1-01", by=worker_of("another"))
    assert agent.get("/agent/seed").status_code == 200
    assert runner.withdraw(node="a1-01", by=worker_of("op1"))
    assert not runner.withdraw(node="a1-01", by=worker_of("op1"))
    assert runner.get("a1-01") is None
    assert runner.list() == ()
    refused = [
        agent.claim(unused),
        agent.next(),
        agent.report("write", "started"),
        agent.get("/agent/seed"),
        agent.get(f"/images/{image.sha256}"),
    ]
    assert [r.status_code for r in refused] == [403] * 5
    assert [agent.http.get(script.split()[2]).status_code, agent.script().status_code] == [404, 404]
    with open_engine(database_url).connect() as connection:
        for table in ("boot_entry", "boot_token", "boot_session", "boot_instruction", "boot_report"):
            assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 0, table


def asked_while(agent: PlayingAgent, change: object) -> tuple[httpx.Response, float]:
    """The answer to a held question, and how long after `change` it came."""
    answers: list[tuple[httpx.Response, float]] = []
    thread = threading.Thread(target=lambda: answers.append((agent.next(), time.monotonic())))
    thread.start()
    time.sleep(1.0)  # the question must be held while nothing changes: that is the thing shown
    assert thread.is_alive(), "the question was not held"
    assert callable(change)
    change()
    changed = time.monotonic()
    thread.join(timeout=90)
    answer, at = answers[0]
    return answer, at - changed


def test_a_held_question_is_answered_before_its_time_is_over(
    runner: BootEntries, agent: PlayingAgent, files: BootFiles
) -> None:
    image = files.add_image(b"image")
    publish(runner)
    agent.boot()
    answer, delay_s = asked_while(agent, lambda: write(runner, image))
    assert pairs(answer.text)["action"] == "write"
    assert delay_s < HOLD_S / 2
    agent.report("write", "started")
    agent.report("write", "failed", detail="disk is on fire")
    answer, delay_s = asked_while(agent, lambda: runner.withdraw(node="a1-01", by=worker_of("op1")))
    assert answer.status_code == 403
    assert delay_s < HOLD_S / 2


def test_a_question_is_held_no_longer_than_told(runner: BootEntries, database_url: str, files: BootFiles) -> None:
    publish(runner)
    with BootServer(services(database_url, files, hold_s=1.0)) as server:
        agent = PlayingAgent(server.url).boot()
        began = time.monotonic()
        assert agent.next().text == "action=wait\n"
        assert 0.9 <= time.monotonic() - began < HOLD_S / 2


def test_only_the_told_image_and_only_for_its_session(
    runner: BootEntries, agent: PlayingAgent, files: BootFiles, server: BootServer
) -> None:
    told, other = files.add_image(b"told"), files.add_image(b"other")
    publish(runner)
    publish(runner, node="a1-02", mac="52:54:00:aa:bb:02", last=12)
    stranger = PlayingAgent(server.url, "52:54:00:aa:bb:02").boot()
    agent.boot()
    assert agent.get(f"/images/{told.sha256}").status_code == 403
    assert agent.get("/agent/seed").status_code == 403
    write(runner, told)
    assert agent.get(f"/images/{told.sha256}").content == b"told"
    assert agent.get(f"/images/{other.sha256}").status_code == 403
    assert agent.http.get(f"/images/{told.sha256}").status_code == 403
    assert stranger.get(f"/images/{told.sha256}").status_code == 403
    assert stranger.get("/agent/seed").status_code == 403
    part = agent.http.get(f"/images/{told.sha256}", headers={**agent.headers, "Range": "bytes=1-2"})
    assert (part.status_code, part.content) == (206, b"ol")
    (files.images / told.sha256).unlink()
    missing = agent.get(f"/images/{told.sha256}")
    assert (missing.status_code, "cache" in missing.text) == (503, True)


def test_an_image_is_not_written_twice(runner: BootEntries, agent: PlayingAgent, files: BootFiles) -> None:
    image = files.add_image(b"image")
    publish(runner)
    agent.boot()
    assert write(runner, image)
    assert not write(runner, image)
    assert not write(runner, image, seed=b"a newer seed")
    assert pairs(agent.next().text)["action"] == "write"
    agent.report("write", "started")
    assert agent.get("/agent/seed").content == b"a newer seed"
    with pytest.raises(Conflict):
        write(runner, image, disk="vdb")
    with pytest.raises(Conflict):
        runner.instruct(node="a1-01", by=worker_of("op1"), action=AgentAction.REBOOT)
    for stage in ("write", "verify", "seed"):
        agent.report(stage, "done")
    assert not write(runner, image, seed=b"a newer seed")


def test_a_failure_reaches_the_operation_and_can_be_tried_again(
    runner: BootEntries, agent: PlayingAgent, files: BootFiles
) -> None:
    image = files.add_image(b"image")
    publish(runner)
    agent.boot()
    write(runner, image)
    agent.next()
    agent.report("write", "started")
    agent.report("write", "failed", detail="no space left on device")
    with pytest.raises(Rejected, match="no space left on device"):
        runner.wait_for("a1-01", "op1", lambda v: v.is_written, timeout_s=10, patience=SOON)
    assert write(runner, image)
    # The answer to the failure got lost: the agent sends it again, and it is not the new attempt's.
    agent.report("write", "failed", detail="no space left on device")
    assert pairs(agent.next().text)["action"] == "write"
    agent.report("write", "started")
    for stage in ("write", "verify", "seed"):
        agent.report(stage, "done")
    assert runner.wait_for("a1-01", "op1", lambda v: v.is_written, timeout_s=10, patience=SOON).is_written


def test_a_restart_in_the_middle_of_a_write(runner: BootEntries, agent: PlayingAgent, files: BootFiles) -> None:
    image = files.add_image(b"image")
    publish(runner)
    agent.boot()
    write(runner, image)
    agent.next()
    agent.report("write", "started")
    agent.boot()
    with pytest.raises(OutcomeUnknown, match="started anew"):
        runner.wait_for("a1-01", "op1", lambda v: v.is_written, timeout_s=10, patience=SOON)
    assert write(runner, image)
    assert pairs(agent.next().text)["action"] == "write"


def test_refusal_and_power_off_stand(runner: BootEntries, agent: PlayingAgent) -> None:
    publish(runner)
    agent.boot()
    runner.instruct(node="a1-01", by=worker_of("op1"), action=AgentAction.REFUSE, reason="serial is A, not B")
    assert [agent.next().text for _ in range(2)] == ["action=refuse\nreason=serial is A, not B\n"] * 2
    runner.instruct(node="a1-01", by=worker_of("op1"), action=AgentAction.POWER_OFF)
    assert agent.next().text == "action=power-off\n"


def test_what_an_agent_gets_wrong_is_named(runner: BootEntries, agent: PlayingAgent) -> None:
    publish(runner)
    token = agent.token()
    bad = agent.claim(token, body="cpu_count=two\n")
    assert (bad.status_code, pairs(bad.text)["error"]) == (
        400,
        "cpu_count is not a whole number of at most 18 digits",
    )
    assert agent.claim(token, body=b"serial=" + b"x" * 300_000).status_code == 413
    assert agent.claim(token).status_code == 200, "a malformed claim must not use up the token"
    assert agent.report("paint", "started").status_code == 400
    assert agent.report("write", "started", detail="x" * 20_000).status_code == 413
    assert agent.http.get("/agent/claim").status_code == 405


def test_entries_are_exclusive(runner: BootEntries) -> None:
    publish(runner)
    first = runner.get("a1-01")
    publish(runner)
    again = runner.get("a1-01")
    assert first is not None
    assert again is not None
    assert again.entry_id == first.entry_id
    for other in (
        {"operation": "op2"},
        {"node": "a1-02", "last": 12},
        {"node": "a1-02", "mac": "52:54:00:aa:bb:02"},
    ):
        with pytest.raises(Conflict, match="op1"):
            publish(runner, **other)
    with pytest.raises(NotFound):
        runner.instruct(node="a1-01", by=worker_of("op2"), action=AgentAction.REBOOT)
    with pytest.raises(InvalidRequest):
        runner.instruct(node="a1-01", by=worker_of("op1"), action=AgentAction.WRITE)
    assert [view.node for view in runner.list()] == ["a1-01"]


def test_a_fenced_off_worker_lets_no_node_boot(runner: BootEntries, database_url: str) -> None:
    publish(runner)
    before = runner.list()
    at = datetime.now(UTC)
    SqlStepLog(open_engine(database_url)).take_over(
        "op1", worker="another", run="", code_version="1.0.0", at=at, expires=at
    )
    calls: list[Callable[[], object]] = [
        lambda: publish(runner, last=12),
        lambda: runner.instruct(node="a1-01", by=worker_of("op1"), action=AgentAction.REBOOT),
        lambda: runner.withdraw(node="a1-01", by=worker_of("op1")),
    ]
    for call in calls:
        with pytest.raises(LeaseLost):
            call()
    assert runner.list() == before


def test_of_many_operations_at_once_one_gets_the_node(runner: BootEntries) -> None:
    def attempt(number: int) -> bool:
        try:
            publish(runner, operation=f"op{number}")
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(attempt, range(8))) == [False] * 7 + [True]


def test_no_secret_is_stored_or_logged(
    runner: BootEntries,
    agent: PlayingAgent,
    files: BootFiles,
    database_url: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    image = files.add_image(b"image")
    publish(runner)
    with caplog.at_level(logging.DEBUG):
        token = agent.token()
        agent.claim(token)
        write(runner, image)
        agent.next()
        agent.get("/agent/seed")
        agent.get(f"/images/{image.sha256}")
    access = [r.getMessage() for r in caplog.records if r.name == "levier.boot.access"]
    assert any("POST '/agent/claim' 200" in line for line in access)
    own = "\n".join(r.getMessage() for r in caplog.records if not r.name.startswith(("httpx", "httpcore")))
    stored = b""
    with open_engine(database_url).connect() as connection:
        for table in ("boot_entry", "boot_token", "boot_session", "boot_instruction", "boot_report"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert rows or table == "boot_report"
            stored += b"\n".join(
                bytes(c) if isinstance(c, bytes | memoryview) else str(c).encode() for r in rows for c in r
            )
    for secret in (token, agent.session, SEED.decode()):
        assert secret not in own
        assert secret.encode() not in stored


def test_a_slow_or_endless_body_is_cut(server: BootServer, runner: BootEntries, agent: PlayingAgent) -> None:
    publish(runner)

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    token = agent.token()
    try:
        answer = agent.http.post("/agent/claim", content=endless(), headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # cut while still sending: as good
    assert agent.claim(token).status_code == 200


def test_the_database_gone_is_an_answer_and_not_a_crash(
    agent: PlayingAgent, runner: BootEntries, database_url: str
) -> None:
    publish(runner)
    agent.boot()
    with open_engine(database_url).begin() as connection:
        connection.execute(text("ALTER TABLE boot_entry RENAME TO gone"))
    answer = agent.next()
    assert answer.status_code == 503
    assert "error=the database cannot be used" in answer.text
