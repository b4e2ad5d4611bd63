"""What the SSH driver does when keys, servers or the path between do not behave, against a real OpenSSH server."""

from __future__ import annotations

import os
import re
import signal
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bmc_peers import wait_until

from drivers.ssh import SshOptions, fingerprint, generate_host_key, open_host
from levier.domain.errors import (
    AuthFailed,
    Busy,
    Cancelled,
    DriverError,
    InvalidRequest,
    LeaseLost,
    MalformedReply,
    OutcomeUnknown,
    Rejected,
    Unreachable,
    Unsupported,
)
from levier.domain.retry import NEVER, treatment_of
from levier.domain.ssh import RemoteHost, SshTarget
from tests.contract.refusing_permit import RefusingPermit
from tests.rig.container import Container
from tests.rig.sshd import LoopbackSshd, free_port
from tests.rig.standing_still import once_heard
from tests.rig.wire import Wire, wire_to

pytestmark = pytest.mark.root

_QUICK = SshOptions(connect_timeout_s=2, handshake_timeout_s=2)
"""For what never answers: these limits are waited out."""
_AGAIN = 5
"""So often a test brings about its moment anew, when this computer stood still until it was over."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LoopbackSshd]:
    """A server of the test's own, because the test harms it."""
    server = LoopbackSshd(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def wire(server: LoopbackSshd) -> Iterator[Wire]:
    wire = wire_to(server.port)
    yield wire
    wire.close()


@pytest.fixture
def host(server: LoopbackSshd, wire: Wire) -> Iterator[RemoteHost]:
    host = open_host(server.target(port=wire.port))
    yield host
    host.close()


@pytest.fixture
def quick_host(server: LoopbackSshd, wire: Wire) -> Iterator[RemoteHost]:
    """A host that is connected, and waited for shortly when it stops answering."""
    host = open_host(server.target(port=wire.port), _QUICK)
    _connect(host)
    yield host
    host.close()


def _connect(host: RemoteHost) -> None:
    once_heard(lambda: host.run("true"), told=lambda: None)


def _wait_for(path: Path) -> None:
    wait_until(path.exists, what=f"{path} appears", timeout_s=60)


def _until(path: Path) -> str:
    """Shell that waits for the file."""
    return f"until [ -e {path} ]; do sleep 0.1; done"


def test_an_unexpected_host_key_is_refused_and_named(server: LoopbackSshd) -> None:
    other = generate_host_key()
    with pytest.raises(AuthFailed) as caught:
        open_host(server.target(host_keys=(other.public_line,))).run("true")
    assert fingerprint(other.public_line) in caught.value.message
    assert fingerprint(server.host_key.public_line) in caught.value.message
    assert "reinstalled" in caught.value.hint
    assert treatment_of(caught.value).retry == NEVER
    assert "Accepted publickey" not in server.log(), "the login key was shown to an unverified host"


def test_an_unexpected_host_key_ends_waiting_at_once(server: LoopbackSshd) -> None:
    started = time.monotonic()
    with pytest.raises(AuthFailed, match="unexpected host key"):
        open_host(server.target(host_keys=(generate_host_key().public_line,))).wait_until_up(timeout_s=60)
    assert time.monotonic() - started < 30


def test_a_key_of_another_type_is_named_too(tmp_path: Path) -> None:
    """The host has only an ECDSA key, an ed25519 key is expected: the refusal still names what was offered."""
    server = LoopbackSshd(tmp_path)
    key = tmp_path / "host_key"
    key.unlink()
    os.spawnlp(os.P_WAIT, "ssh-keygen", "ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(key))
    ecdsa_line = key.with_suffix(".pub").read_text()
    server.start()
    try:
        with pytest.raises(AuthFailed, match="offered ecdsa-sha2-nistp256 SHA256:") as caught:
            open_host(server.target()).run("true")
        assert fingerprint(ecdsa_line) in caught.value.message
        accepted = open_host(server.target(host_keys=(server.host_key.public_line, ecdsa_line)))
        assert accepted.run("echo known").stdout == "known\n"
        accepted.close()
    finally:
        server.stop()


def test_no_known_host_key_is_refused_before_connecting(server: LoopbackSshd) -> None:
    with pytest.raises(InvalidRequest, match="no host key is known"):
        open_host(server.target(host_keys=()))


def test_a_refused_login_key_is_tried_once(server: LoopbackSshd) -> None:
    host = open_host(server.target(login=generate_host_key()))
    with pytest.raises(AuthFailed, match=r"login key ssh-ed25519 SHA256:.* was refused") as caught:
        host.wait_until_up(timeout_s=30)
    assert treatment_of(caught.value).retry == NEVER
    # sshd reports one refused client in one line or in two, as its monitor happens to run: a client is its port.
    refused = re.findall(r"(?:Failed publickey|Connection closed by authenticating user).* port (\d+)", server.log())
    assert len(set(refused)) == 1, server.log()


def test_a_fenced_off_worker_changes_nothing_more(server: LoopbackSshd, tmp_path: Path) -> None:
    """Whenever it learns it in the course of an upload, the file is the old one and no command follows."""
    path, content = tmp_path / "file", os.urandom(300 * 1024)
    path.write_text("old")
    whole = RefusingPermit(after=1000)
    unfenced = open_host(server.target(), permit=whole)
    unfenced.upload(content, str(path))
    unfenced.close()
    assert path.read_bytes() == content
    assert whole.asked >= 8, "the connection, two commands and five pieces"
    for permitted in range(whole.asked):
        path.write_text("old")
        fenced = open_host(server.target(), permit=RefusingPermit(after=permitted))
        with pytest.raises(LeaseLost):
            fenced.upload(content, str(path))
        fenced.close()
        assert path.read_text() == "old"
        assert [each.name for each in tmp_path.iterdir() if each.name.startswith(".levier-upload")] == []


def test_no_key_of_this_user_is_looked_for(
    server: LoopbackSshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The right key lies in ~/.ssh and the right host key in known_hosts: neither helps."""
    ssh = tmp_path / "home/.ssh"
    ssh.mkdir(parents=True)
    (ssh / "id_ed25519").write_text(server.login.private_openssh)
    (ssh / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {server.host_key.public_line}\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(AuthFailed, match="was refused"):
        open_host(server.target(login=generate_host_key())).run("true")
    with pytest.raises(AuthFailed, match="unexpected host key"):
        open_host(server.target(host_keys=(generate_host_key().public_line,))).run("true")


def test_nobody_listens(server: LoopbackSshd) -> None:
    with pytest.raises(Unreachable, match="refused"):
        open_host(server.target(port=free_port())).run("true")


@pytest.mark.parametrize("address", ["255.255.255.255", "no..name"], ids=["no route", "no name"])
def test_no_way_there(server: LoopbackSshd, address: str) -> None:
    known = server.target()
    target = SshTarget(address, 22, "root", known.host_keys, known.private_key)
    with pytest.raises(Unreachable, match="no TCP connection"):
        open_host(target, _QUICK).run("true")


def test_a_port_that_accepts_and_says_nothing(server: LoopbackSshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        started = time.monotonic()
        with pytest.raises(Unreachable, match="no SSH handshake"):
            open_host(server.target(port=mute.getsockname()[1]), _QUICK).run("true")
        assert time.monotonic() - started < 30


def test_a_server_that_is_no_ssh_server(server: LoopbackSshd) -> None:
    with socket.create_server(("127.0.0.1", 0)) as web:

        def answer() -> None:
            client, _ = web.accept()
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            client.close()

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="no SSH handshake"):
            open_host(server.target(port=web.getsockname()[1]), _QUICK).run("true")
        thread.join()


def test_no_algorithm_in_common(tmp_path: Path) -> None:
    server = LoopbackSshd(tmp_path, extra_config="KexAlgorithms sntrup761x25519-sha512@openssh.com")
    server.start()
    try:
        with pytest.raises(Unsupported, match="no SSH algorithm in common"):
            open_host(server.target()).run("true")
    finally:
        server.stop()


def test_the_session_is_killed_while_a_command_runs(server: LoopbackSshd, host: RemoteHost, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, f"touch {tmp_path}/begun; sleep 30")
        _wait_for(tmp_path / "begun")
        assert server.kill_sessions() == 1
        with pytest.raises(OutcomeUnknown, match="lost after it was sent"):
            running.result(timeout=60)
    assert host.run("echo again").stdout == "again\n"


def test_a_session_that_is_slow_to_open_does_not_end_what_others_do(
    server: LoopbackSshd, quick_host: RemoteHost, tmp_path: Path
) -> None:
    """sshd hangs with one command under way: the next one takes another connection, and the first keeps its own."""
    host, first = quick_host, f"touch {tmp_path}/begun; {_until(tmp_path / 'end')}; echo whole"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(once_heard, lambda: host.run(first), told=(tmp_path / "begun").exists)
        _wait_for(tmp_path / "begun")
        hung = server.session_pids()
        for pid in hung:
            os.kill(pid, signal.SIGSTOP)
        try:
            assert once_heard(lambda: host.run("echo second"), told=lambda: None).stdout == "second\n"
            assert len(server.session_pids()) > len(hung)
        finally:
            for pid in hung:
                os.kill(pid, signal.SIGCONT)
        (tmp_path / "end").touch()
        assert running.result(timeout=60).stdout == "whole\n"
    wait_until(lambda: not {*hung} & {*server.session_pids()}, what="the connection that was given up is closed")
    assert once_heard(lambda: host.run("echo third"), told=lambda: None).stdout == "third\n"


def test_the_path_is_cut_while_a_command_runs(wire: Wire, host: RemoteHost, tmp_path: Path) -> None:
    """The host ends the command at its time-out although nobody is connected any more."""
    tag = f"6{uuid.uuid4().int % 10**6:06}"
    with ThreadPoolExecutor(1) as pool:
        for begun in (tmp_path / f"begun-{number}" for number in range(_AGAIN)):
            running = pool.submit(host.run, f"touch {begun}; sleep {tag}", timeout_s=3)
            _wait_for(begun)
            wire.cut()
            error = running.exception(timeout=60)
            if "not finished after" not in str(error):
                break
    assert isinstance(error, OutcomeUnknown)
    assert "lost after it was sent" in error.message
    wait_until(
        lambda: not host.run(f"pgrep -fx 'sleep {tag}'", check=False).stdout,
        what="the end of the command, whose time-out is over",
        timeout_s=30,
    )


def test_a_path_cut_between_commands_goes_unnoticed(wire: Wire, host: RemoteHost, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    for number in range(5):
        assert host.run(f"echo {number} >> {ledger}; echo done").stdout == "done\n"
        wire.cut()
    assert ledger.read_text().split() == ["0", "1", "2", "3", "4"], "a command ran twice or not at all"
    assert wire.accepted == 5


def test_a_restarted_server_goes_unnoticed(server: LoopbackSshd, host: RemoteHost) -> None:
    assert host.run("echo before").stdout == "before\n"
    server.stop()
    with pytest.raises(Unreachable):
        host.run("true")
    server.start()
    assert host.run("echo after").stdout == "after\n"


def test_a_frozen_path_before_a_command_is_unreachable(wire: Wire, quick_host: RemoteHost, tmp_path: Path) -> None:
    host = quick_host
    wire.freeze()
    with pytest.raises(Unreachable):
        host.run(f"touch {tmp_path}/ran")
    wire.thaw()
    host.wait_until_up(timeout_s=60)
    assert not (tmp_path / "ran").exists()


def test_a_path_frozen_in_a_command_is_unknown_in_bounded_time(wire: Wire, host: RemoteHost, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        for number in range(_AGAIN):
            begun, go, ended = (tmp_path / f"{name}-{number}" for name in ("begun", "go", "ended"))
            running = pool.submit(host.run, f"touch {begun}; {_until(go)}; touch {ended}", timeout_s=2)
            _wait_for(begun)
            wire.freeze()
            go.touch()
            error = running.exception(timeout=60)
            wire.thaw()
            if ended.exists():  # else its time was over before it could go on
                break
    assert isinstance(error, OutcomeUnknown)
    assert "no end" in error.message
    assert ended.exists()


def test_a_daemon_that_holds_the_output_open_is_unknown(host: RemoteHost, tmp_path: Path) -> None:
    daemon = tmp_path / "pid"
    with pytest.raises(OutcomeUnknown, match="holds its output open"):
        host.run(f"setsid sleep 300 & echo $! > {daemon}; exit 0", timeout_s=1)
    os.kill(int(daemon.read_text()), signal.SIGKILL)


def test_output_cut_off_after_the_status_is_unknown(wire: Wire, host: RemoteHost, tmp_path: Path) -> None:
    """The status has arrived and a process left behind may write more: what is here may not be all."""
    with ThreadPoolExecutor(1) as pool:
        left_behind = f"sleep 1; touch {tmp_path}/ended; {_until(tmp_path / 'cut')}"
        running = pool.submit(host.run, f"({left_behind}) & echo part; exit 0", timeout_s=60)
        try:
            _wait_for(tmp_path / "ended")
            wire.cut()
            with pytest.raises(OutcomeUnknown, match="ended before its output"):
                running.result(timeout=60)
        finally:
            (tmp_path / "cut").touch()


def test_a_broken_upload_leaves_the_old_file(
    server: LoopbackSshd, wire: Wire, host: RemoteHost, tmp_path: Path
) -> None:
    path = tmp_path / "f"
    host.upload(b"old", str(path))
    wire.freeze()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.upload, os.urandom(30 * 2**20), str(path))
        wire.thaw()
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size > 2**20 for p in _uploads(tmp_path)):
            assert time.monotonic() < deadline, "the upload never began"
        server.kill_sessions()
        with pytest.raises(OutcomeUnknown):
            running.result(timeout=60)
    wait_until(lambda: not _uploads(tmp_path), what="the partial file is removed", timeout_s=60)
    assert path.read_bytes() == b"old"


def _uploads(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name.startswith(".levier-upload")]


def test_more_output_than_allowed(server: LoopbackSshd) -> None:
    host = open_host(server.target(), SshOptions(max_output_bytes=100_000))
    with pytest.raises(MalformedReply, match="more than 100000 bytes"):
        host.run("cat /dev/zero")
    assert host.run("echo fine").stdout == "fine\n"
    host.close()


def test_sessions_run_out(tmp_path: Path) -> None:
    """sshd allows one session, we would open eight: refused for now, and it did not run."""
    server = LoopbackSshd(tmp_path, extra_config="MaxSessions 1")
    server.start()
    host = open_host(server.target())
    try:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(host.run, f"touch {tmp_path}/begun; {_until(tmp_path / 'end')}")
            _wait_for(tmp_path / "begun")
            with pytest.raises(Busy, match="refused another session"):
                host.run(f"touch {tmp_path}/second")
            (tmp_path / "end").touch()
            running.result()
        assert not (tmp_path / "second").exists()
        patient = open_host(server.target(), SshOptions(max_sessions=1))
        with ThreadPoolExecutor(4) as pool:
            assert [r.exit_status for r in pool.map(patient.run, ["sleep 0.1"] * 4)] == [0] * 4
        patient.close()
    finally:
        host.close()
        server.stop()


def test_all_sessions_taken_for_too_long(server: LoopbackSshd, tmp_path: Path) -> None:
    host = open_host(server.target(), SshOptions(max_sessions=1))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(host.run, f"touch {tmp_path}/begun; {_until(tmp_path / 'end')}")
        _wait_for(tmp_path / "begun")
        with pytest.raises(Busy, match="sessions are busy"):
            host.run("true", timeout_s=0.3)
        (tmp_path / "end").touch()
        running.result()
    host.close()


def test_threads_share_one_failed_login(server: LoopbackSshd, wire: Wire) -> None:
    """Eight threads and a refused key must not look like eight attempts to break in."""
    host = open_host(server.target(login=generate_host_key(), port=wire.port))

    def attempt(_: int) -> type[DriverError]:
        with pytest.raises(DriverError) as caught:
            host.run("true")
        return type(caught.value)

    wire.freeze()
    with ThreadPoolExecutor(8) as pool:
        outcomes = [pool.submit(attempt, number) for number in range(8)]
        _wait_until_inside("_connected", threads=8)
        wire.thaw()
        assert {outcome.result() for outcome in outcomes} == {AuthFailed}
    assert wire.accepted == 1


def _wait_until_inside(function: str, *, threads: int) -> None:
    """So many threads of this process are in a function of that name."""
    deadline = time.monotonic() + 60
    while True:
        stacks = [traceback.extract_stack(frame) for frame in sys._current_frames().values()]
        if sum(any(call.name == function for call in stack) for stack in stacks) >= threads:
            return
        assert time.monotonic() < deadline, f"fewer than {threads} threads reached {function}"
        time.sleep(0.01)


def test_waiting_gives_up_with_the_cause(server: LoopbackSshd) -> None:
    host = open_host(server.target(port=free_port()))
    with pytest.raises(Unreachable, match=r"not up after 1.5 s.*refused"):
        host.wait_until_up(timeout_s=1.5)


def test_waiting_ends_at_once_when_its_check_raises(server: LoopbackSshd) -> None:
    host, asked = open_host(server.target(port=free_port())), []

    def check() -> None:
        asked.append(time.monotonic())
        if len(asked) == 3:
            raise Cancelled("somebody changed his mind")

    with pytest.raises(Cancelled, match="changed his mind"):
        host.wait_until_up(timeout_s=60, check=check)
    assert asked[-1] - asked[0] < 30, "it was asked before every attempt"


def test_waiting_for_a_server_that_comes_up_later(tmp_path: Path) -> None:
    server = LoopbackSshd(tmp_path)
    host = open_host(server.target())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(host.wait_until_up, timeout_s=120)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        server.start()
        try:
            waiting.result(timeout=120)
        finally:
            host.close()
            server.stop()


def test_sudo_that_wants_a_password(debian_12: Container) -> None:
    """`nobody` may not use sudo: the refusal quotes sudo and nothing ran."""
    host = open_host(debian_12.target())
    host.run("useradd -m -s /bin/bash plain; cp -r /root/.ssh /home/plain/; chown -R plain: /home/plain")
    plain = open_host(debian_12.target(username="plain"), SshOptions(become=True))
    with pytest.raises(Rejected, match=r"(?s)sudo: a password is required"):
        plain.run("touch /tmp/ran-without-right")
    assert host.download("/tmp/ran-without-right") is None
    for opened in (host, plain):
        opened.close()


def test_reboot_comes_back_with_another_boot_id(debian_12: Container) -> None:
    """nspawn binds a boot id of its own over the kernel's at every start: a container reboots as a host does."""
    for options, user in ((SshOptions(), "root"), (SshOptions(become=True), "ops")):
        host = open_host(debian_12.target(username=user), options)
        before = host.facts()
        host.run("echo gone > /run/levier-volatile; echo kept > /var/levier-lasting")
        after = host.reboot_and_wait(timeout_s=180)
        assert after != before.boot_id
        now = host.facts()
        assert (now.boot_id, now.machine_id) == (after, before.machine_id)
        assert host.download("/run/levier-volatile") is None
        assert host.remove("/var/levier-lasting") is True
        host.close()


def test_a_host_that_does_not_reboot_is_unknown(debian_12: Container) -> None:
    """The request is taken and nothing comes of it: only the boot id shows that."""
    host = open_host(debian_12.target())
    host.run("mount --bind /bin/true /bin/systemctl")
    try:
        with pytest.raises(OutcomeUnknown, match="still runs boot") as caught:
            host.reboot_and_wait(timeout_s=3)
        assert "console" in caught.value.hint
    finally:
        host.run("umount /bin/systemctl")
        host.close()


def test_a_refused_reboot_is_rejected_at_once(debian_12: Container) -> None:
    host = open_host(debian_12.target())
    host.run("systemctl mask --runtime reboot.target")
    try:
        with pytest.raises(Rejected, match="Call to Reboot failed"):
            host.reboot_and_wait(timeout_s=60)
    finally:
        host.run("systemctl unmask --runtime reboot.target")
        host.close()
