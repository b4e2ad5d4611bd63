"""A real OpenSSH server on a loopback port, with keys of its own, ended by pid."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from drivers.ssh import KeyPair, generate_host_key
from levier.domain.ssh import SshTarget

_SSHD = "/usr/sbin/sshd"
_START_TIMEOUT_S = 20.0


class LoopbackSshd:
    """sshd in the foreground on 127.0.0.1; root logs in with `login`, the server shows `host_key`."""

    def __init__(self, directory: Path, *, port: int | None = None, extra_config: str = "") -> None:
        self.directory = directory
        self.host_key = generate_host_key("test-host")
        self.login = generate_host_key("test-login")
        self.port = port or free_port()
        self._extra_config = extra_config
        self._process: subprocess.Popen[bytes] | None = None
        self._write_files()

    def _write_files(self) -> None:
        # sshd's privilege separation needs it, and only its unit file would make it.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        key = self.directory / "host_key"
        key.touch(mode=0o600)
        key.write_text(self.host_key.private_openssh)
        (self.directory / "authorized_keys").write_text(self.login.public_line + "\n")
        (self.directory / "sshd_config").write_text(
            f"{self._extra_config}\n"
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {key}\nPidFile none\n"
            f"AuthorizedKeysFile {self.directory}/authorized_keys\nStrictModes no\nUsePAM no\n"
            "PermitRootLogin prohibit-password\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            "MaxStartups 100\nLogLevel VERBOSE\n"
        )

    def start(self) -> None:
        """The server answers with its banner."""
        log = (self.directory / "sshd.log").open("ab")
        self._process = subprocess.Popen(
            [_SSHD, "-D", "-e", "-f", str(self.directory / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        log.close()
        wait_for_banner(self.port, timeout_s=_START_TIMEOUT_S)

    def stop(self) -> None:
        """The server and every session it still serves are gone. Safe to repeat."""
        if self._process is not None:
            sessions = self.session_pids()
            self._process.terminate()
            self._process.wait(timeout=10)
            self._process = None
            for pid in sessions:
                _kill(pid)

    def session_pids(self) -> list[int]:
        """The processes that serve one connection each: children of the listener."""
        assert self._process is not None
        return child_pids(self._process.pid)

    def kill_sessions(self) -> int:
        """Every connection's process is killed; the listener goes on. Returns how many there were."""
        pids = self.session_pids()
        for pid in pids:
            _kill(pid)
        return len(pids)

    def target(
        self, *, host_keys: tuple[str, ...] | None = None, login: KeyPair | None = None, port: int | None = None
    ) -> SshTarget:
        """How this server is reached, with parts replaced where a test wants them wrong."""
        return SshTarget(
            host="127.0.0.1",
            port=port or self.port,
            username="root",
            host_keys=(self.host_key.public_line,) if host_keys is None else host_keys,
            private_key=(login or self.login).private_openssh,
        )

    def log(self) -> str:
        """What the server wrote so far."""
        return (self.directory / "sshd.log").read_text(errors="replace")


def free_port() -> int:
    """A TCP port of the loopback that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def child_pids(pid: int) -> list[int]:
    """Direct children of a process, from /proc/PID/task/*/children (proc(5))."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def wait_for_banner(port: int, *, timeout_s: float) -> None:
    """An SSH server on the loopback port sent its identification string."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=2) as sock:
                if sock.recv(4) == b"SSH-":
                    return
        except OSError as error:
            last: object = error
        else:
            last = "no banner"
        if time.monotonic() > deadline:
            raise TimeoutError(f"no SSH server on port {port}: {last}")
        time.sleep(0.05)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
