"""dnsmasq as Levier runs it: started and stopped by one process, its hosts published by any."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.netboot.dnsmasq_config import DnsmasqConfig, render_hosts, replace_file, write_config
from drivers.netboot.dnsmasq_process import command_line, end, running_dnsmasq
from levier.domain.errors import Conflict, OutcomeUnknown, Rejected, Unreachable
from levier.domain.netboot import DhcpHost

_log = logging.getLogger("levier.netboot")
_POLL_S = 0.02
_MAX_LOG_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Lease:
    """One line of dnsmasq's lease file."""

    mac: str
    address: str
    hostname: str


class DnsmasqHosts:
    """Says who is answered, from any process on the machine that runs dnsmasq; fits services.boot.DhcpPublisher."""

    def __init__(self, config: DnsmasqConfig) -> None:
        self._config = config

    def publish(self, read_hosts: Callable[[], Iterable[DhcpHost]]) -> None:
        """dnsmasq answers exactly the hosts that `read_hosts` returned, and holds no lease of others.

        `read_hosts` is called under a lock, so that of several publishers the last one has the last word. Safe to
        repeat. Raises Unreachable when our dnsmasq does not run (the hosts count from its next start), OutcomeUnknown
        when it does not say within 5 s that it read them.
        """
        files = self._config.files
        with _locked(files.lock):
            hosts = tuple(read_hosts())
            replace_file(files.hosts, render_hosts(hosts).encode())
            self._reload()
            self._release_others(hosts)

    def leases(self) -> tuple[Lease, ...]:
        """The leases dnsmasq holds now. Reads its file, which nobody but dnsmasq ever writes."""
        try:
            lines = self._config.files.leases.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ()
        fields = [line.split() for line in lines]
        return tuple(Lease(mac=f[1], address=f[2], hostname=f[3]) for f in fields if len(f) == 5 and ":" in f[1])

    def lease_given(self, mac: str) -> bool:
        """Whether the machine with this MAC holds a lease."""
        return any(lease.mac == mac for lease in self.leases())

    def _reload(self) -> None:
        log = self._config.files.log
        with running_dnsmasq(self._config) as process:
            if process is None:
                raise Unreachable("Levier's dnsmasq is not running: no machine is answered", hint="run `levier up`")
            _shorten(log)
            position = log.stat().st_size
            process.signal(signal.SIGHUP)
            if not _until(lambda: _has_read_hosts(self._config, position), timeout_s=5.0):
                raise OutcomeUnknown("dnsmasq did not say that it read its hosts anew", hint=f"see {log}")

    def _release_others(self, hosts: Iterable[DhcpHost]) -> None:
        """Otherwise dnsmasq keeps an address from its new holder until the former one's lease ends."""
        wanted = {(host.mac, host.address) for host in hosts}
        stale = [lease for lease in self.leases() if (lease.mac, lease.address) not in wanted]
        for lease in stale:
            self._release(lease)
        left = {(lease.mac, lease.address) for lease in stale}
        if not _until(lambda: not any((e.mac, e.address) in left for e in self.leases()), timeout_s=3.0):
            raise OutcomeUnknown("dnsmasq did not end the leases of withdrawn machines", hint="repeat the request")

    def _release(self, lease: Lease) -> None:
        interface = self._config.interface_of(lease.address)
        if not interface:  # of a network no longer served: dnsmasq forgets it by itself
            return
        prefix = ["ip", "netns", "exec", self._config.netns] if self._config.netns else []
        command = [*prefix, "dhcp_release", interface, lease.address, lease.mac]
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        if result.returncode != 0:
            raise Rejected(f"the lease of {lease.address} could not be ended: {result.stderr.strip()}")


class DnsmasqServer:
    """dnsmasq as a child of this process. Needs root."""

    def __init__(self, config: DnsmasqConfig) -> None:
        self._config = config
        self._hosts = DnsmasqHosts(config)
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether a dnsmasq with this configuration runs, whoever started it."""
        with running_dnsmasq(self._config) as process:
            return process is not None and (self._child is None or self._child.poll() is None)

    @property
    def pid(self) -> int | None:
        """The process id of the dnsmasq that runs with this configuration."""
        with running_dnsmasq(self._config) as process:
            return None if process is None else process.pid

    def start(self, *, timeout_s: float = 15.0) -> None:
        """dnsmasq serves, with the hosts last published. One left by a process that died is replaced.

        Raises Rejected with dnsmasq's own words when it gives up (an address in use, no such interface), Conflict when
        this object has started it already, InvalidRequest and Unsupported as write_config does.
        """
        if self._child is not None:
            if self.running:
                raise Conflict("dnsmasq was started already", hint="stop it first")
            self._child.wait(timeout=10)  # killed, perhaps this very moment
        prepare(self._config)
        command = command_line(self._config)
        with open(self._config.files.log.with_suffix(".err"), "wb") as errors:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
        self._child = child
        if not _until(lambda: child.poll() is not None or self._is_serving(child.pid), timeout_s=timeout_s):
            self.stop()
            raise OutcomeUnknown(f"dnsmasq did not get ready within {timeout_s:.0f} s", hint=self._last_words())
        if child.poll() is not None:
            self._child = None
            raise Rejected(f"dnsmasq gave up: {self._last_words()}", hint=f"see {self._config.files.log}")

    def stop(self) -> None:
        """dnsmasq does not run, and its pid file is gone; hosts and leases stay for the next start. Safe to repeat."""
        stop_leftover(self._config)
        child, self._child = self._child, None
        if child is not None:
            if child.poll() is None:  # not yet named by the pid file
                child.terminate()
            child.wait(timeout=10)

    def set_hosts(self, hosts: Iterable[DhcpHost]) -> None:
        """Exactly these hosts are answered; see DnsmasqHosts.publish."""
        kept = tuple(hosts)
        self._hosts.publish(lambda: kept)

    def _is_serving(self, pid: int) -> bool:
        with running_dnsmasq(self._config) as process:
            return process is not None and process.pid == pid and _has_read_hosts(self._config, 0)

    def _last_words(self) -> str:
        log = self._config.files.log
        texts = [p.read_text(errors="replace") for p in (log.with_suffix(".err"), log) if p.exists()]
        lines = [line for text in texts for line in text.splitlines() if line.strip()]
        return (lines or ["it said nothing"])[0 if texts and texts[0].strip() else -1]


def prepare(config: DnsmasqConfig) -> None:
    """All files are in place and checked, no dnsmasq with this configuration runs, and its log is empty."""
    write_config(config)
    stop_leftover(config)
    if config.files.log.exists():
        config.files.log.replace(config.files.log.with_suffix(".log.1"))
    for prefix in config.prefixes:
        prefix.bring_up()


def exec_in_foreground(config: DnsmasqConfig) -> None:
    """This process becomes dnsmasq, for supervisors such as systemd; returns never. Raises as DnsmasqServer.start."""
    prepare(config)
    command = command_line(config)
    program = shutil.which(command[0]) or command[0]
    os.execv(program, command)  # noqa: S606 - no shell is the point


def wait_until_serving(config: DnsmasqConfig, *, timeout_s: float = 15.0) -> None:
    """The dnsmasq that another process runs serves with its hosts read. Raises Unreachable after `timeout_s`."""

    def serving() -> bool:
        with running_dnsmasq(config) as process:
            return process is not None and _has_read_hosts(config, 0)

    if not _until(serving, timeout_s=timeout_s):
        raise Unreachable(f"Levier's dnsmasq does not serve after {timeout_s:.0f} s", hint=f"see {config.files.log}")


def stop_leftover(config: DnsmasqConfig) -> None:
    """No dnsmasq with this configuration runs, and nothing of it is left. Safe to repeat."""
    with running_dnsmasq(config) as process:
        if process is not None:
            _log.info("stopping dnsmasq, process %d", process.pid)
            end(process)
    config.files.pid.unlink(missing_ok=True)
    for prefix in config.prefixes:
        prefix.take_down()


def _has_read_hosts(config: DnsmasqConfig, position: int) -> bool:
    """Whether dnsmasq said, after `position` of its log, that it read its hosts; it does so once it serves."""
    try:
        with config.files.log.open("rb") as file:
            file.seek(position)
            return f"read {config.files.hosts}\n".encode() in file.read()
    except FileNotFoundError:
        return False


def _shorten(log: Path) -> None:
    """The log is below its limit. dnsmasq appends, so that a file cut to nothing is simply begun again."""
    if log.stat().st_size > _MAX_LOG_BYTES:
        shutil.copyfile(log, log.with_suffix(".log.1"))
        os.truncate(log, 0)


def _until(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """No other process or thread is inside a block for the same path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
