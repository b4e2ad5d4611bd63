"""The supervisor's data, log files and process identities."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain.errors import Conflict, InvalidRequest
from levier.supervisor.catalogue import UpSettings, processes, wanted_ports
from levier.supervisor.lineage import MARK, end_all, identity_of, is_alive, kill, marked
from levier.supervisor.logfile import RotatingLog, tail
from levier.supervisor.ports import WantedPort, check_free
from levier.supervisor.spec import ProcessSpec, RestartPolicy, in_start_order, only
from levier.supervisor.statedir import StateDir, load_record


def spec(name: str, *needs: str) -> ProcessSpec:
    return ProcessSpec(name, ("true",), depends_on=needs)


@given(st.permutations([spec("a"), spec("b", "a"), spec("c", "a", "b"), spec("d")]))
def test_start_order_keeps_every_dependency_whatever_order_was_given(given_order: list[ProcessSpec]) -> None:
    names = [each.name for each in in_start_order(tuple(given_order))]
    assert sorted(names) == ["a", "b", "c", "d"]
    assert names.index("a") < names.index("b") < names.index("c")


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        ((spec("a", "b"), spec("b", "a")), "circle"),
        ((spec("a", "x"),), "unknown x"),
        ((spec("a"), spec("a")), "same name"),
    ],
)
def test_impossible_dependencies_are_refused(specs: tuple[ProcessSpec, ...], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said):
        in_start_order(specs)


def test_only_drops_dependencies_on_what_is_left_out() -> None:
    kept = only((spec("a"), spec("b", "a"), spec("c", "b")), ("a", "c"))
    assert [(each.name, each.depends_on) for each in kept] == [("a", ()), ("c", ())]
    with pytest.raises(InvalidRequest, match="no process x"):
        only((spec("a"),), ("x",))


def test_restart_delays_double_up_to_the_most() -> None:
    policy = RestartPolicy(first_s=0.5, max_s=3)
    assert [policy.delay_s(n) for n in (1, 2, 3, 4, 1000)] == [0.5, 1, 2, 3, 3]


@pytest.mark.parametrize("namespace", [None, "lab"])
def test_the_catalogue_is_consistent_and_hides_secrets(
    tmp_path: Path, namespace: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEVIER_PREFECT_DATABASE_URL", "postgresql+asyncpg://levier:s3cr3t@db/prefect")
    settings = UpSettings(state_dir=tmp_path, namespace=namespace)
    specs = in_start_order(processes(settings))
    assert {each.name for each in specs} - {"relay"} == {"prefect", "api", "boot", "netboot", "runner"}
    assert all("s3cr3t" not in " ".join(each.argv) + repr(each) for each in specs)
    inside = {each.name for each in specs if each.namespace is not None}
    assert inside == (set() if namespace is None else {"prefect", "boot", "netboot", "runner"})
    assert UpSettings.from_json(settings.to_json()) == settings


def test_a_runner_alone_talks_to_the_prefect_server_of_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://10.0.0.5:4200/api")
    (runner,) = processes(UpSettings(state_dir=tmp_path, processes=("runner",)))
    assert runner.env["PREFECT_API_URL"] == "http://10.0.0.5:4200/api"
    assert {each.env["PREFECT_API_URL"] for each in processes(UpSettings(state_dir=tmp_path))} == {
        "http://127.0.0.1:4200/api"
    }


def test_a_relayed_port_is_wanted_on_both_sides(tmp_path: Path) -> None:
    wanted = wanted_ports(UpSettings(state_dir=tmp_path, namespace="lab"))
    assert {(each.port, each.namespace) for each in wanted} == {
        (4200, "lab"),
        (8480, "lab"),
        (4200, None),
        (8420, None),
    }


def test_a_port_in_use_is_a_conflict_and_a_free_one_is_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Conflict, match=f"port {port} .* is taken") as caught:
            check_free((WantedPort("127.0.0.1", port, "--x-port"),))
        assert "--x-port" in caught.value.hint
    check_free((WantedPort("127.0.0.1", port, "--x-port"),))


def test_a_log_is_rotated_between_writes_and_old_parts_go(tmp_path: Path) -> None:
    path = tmp_path / "p.log"
    log = RotatingLog(path, max_bytes=10, keep=2)
    for line in (b"first 1\n", b"second\n", b"third 3\n", b"a line longer than the limit\n", b"last\n"):
        log.write(line)
    log.close()
    kept = [p.read_text() for p in (path, tmp_path / "p.log.1", tmp_path / "p.log.2")]
    assert kept == ["last\n", "a line longer than the limit\n", "third 3\n"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.log", "p.log.1", "p.log.2"]
    assert tail(path) == "last"
    assert tail(tmp_path / "none.log") == ""


def test_a_log_is_continued_after_a_restart(tmp_path: Path) -> None:
    for line in (b"before\n", b"after\n"):
        log = RotatingLog(tmp_path / "p.log")
        log.write(line)
        log.close()
    assert (tmp_path / "p.log").read_text() == "before\nafter\n"


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        identity = identity_of(process.pid)
        assert identity is not None
        assert is_alive(identity)
        impostor = replace(identity, started_ticks=identity.started_ticks - 1)
        assert not is_alive(impostor)
        assert not kill(impostor, signal.SIGKILL)
        assert process.poll() is None
        assert kill(identity, signal.SIGTERM)
        process.wait(timeout=10)
        assert not kill(identity, signal.SIGTERM)
    finally:
        process.kill()
        process.wait()


def test_what_carries_a_mark_is_found_and_ended_and_nothing_else() -> None:
    mark = f"unit-{os.getpid()}"
    pause = [sys.executable, "-c", "import signal; print(flush=True); signal.pause()"]
    values = {"own": mark, "child": f"{mark}:api", "other": f"{mark}0", "none": None}
    processes = {
        name: subprocess.Popen(pause, env={**os.environ, **({MARK: v} if v else {})}, stdout=subprocess.PIPE)
        for name, v in values.items()
    }
    try:
        for process in processes.values():
            assert process.stdout is not None
            process.stdout.readline()
        assert {each.pid for each in marked(mark)} == {processes["own"].pid, processes["child"].pid}
        assert end_all(mark) == 2
        assert processes["own"].wait() == processes["child"].wait() == -signal.SIGKILL
        assert processes["other"].poll() is None
        assert processes["none"].poll() is None
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()


def test_a_broken_record_is_named_and_an_absent_one_is_none(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "s")
    state_dir.create()
    assert load_record(state_dir) is None
    state_dir.record_file.write_text("{}")
    with pytest.raises(InvalidRequest, match=r"supervisor\.json is not a supervisor's record"):
        load_record(state_dir)


def test_the_lock_is_held_once_and_free_again_when_closed(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "s")
    state_dir.create()
    assert state_dir.path.stat().st_mode & 0o777 == 0o711, "dnsmasq without privileges passes through"
    assert state_dir.run.stat().st_mode & 0o777 == 0o700
    assert state_dir.log("x").parent.stat().st_mode & 0o777 == 0o700
    lock = state_dir.lock()
    assert lock is not None
    assert state_dir.lock() is None
    os.close(lock)
    again = state_dir.lock()
    assert again is not None
    os.close(again)


def test_a_state_dir_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InvalidRequest, match="cannot make"):
        StateDir(tmp_path / "file" / "s").create()
