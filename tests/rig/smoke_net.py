"""A network with DHCP, a metadata service and a peer that answers by HTTP, for guests of the smoke test."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from drivers.guest import BuiltGuest, build_guest
from levier.domain.errors import Conflict
from levier.domain.smoke import GuestReport, read_console
from tests.integration.netboot.provisioning_net import BRIDGE, SERVER, ProvisioningNet, run
from tests.rig.image_cache import image_cache

METADATA = "169.254.169.254"
_PATIENCE_S = 120.0


def shared_guest() -> BuiltGuest:
    """The guest, built once per machine. Waits for another suite that is building it."""
    deadline = time.monotonic() + _PATIENCE_S
    while True:
        try:
            return build_guest(image_cache(), print)
        except Conflict:
            if time.monotonic() > deadline:
                raise
            time.sleep(1)


@contextmanager
def process(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@dataclass
class Guest:
    """A guest in QEMU, as nova starts it: kernel, ramdisk and a small root disk."""

    address: str
    process: subprocess.Popen[bytes]
    directory: Path

    @property
    def console(self) -> str:
        path = self.directory / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def report(self) -> GuestReport:
        return read_console(self.console)

    def monitor(self, *commands: str) -> None:
        """QEMU's monitor was given the commands."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.directory / "monitor"))
            for command in (*commands, "info status"):
                connection.sendall(command.encode() + b"\n")
            seen = b""
            while b"VM status" not in seen:
                part = connection.recv(4096)
                assert part, seen
                seen += part

    def wait_for(self, fits: Callable[[GuestReport], bool], *, timeout_s: float) -> GuestReport:
        deadline = time.monotonic() + timeout_s
        while not fits(report := self.report):
            assert self.process.poll() is None, "QEMU ended"
            assert time.monotonic() < deadline, f"not within {timeout_s} s; the console:\n{self.console[-3000:]}"
            time.sleep(0.2)  # between two looks at the console
        return report


class SmokeNet:
    """DHCP at SERVER, which is the router too; user data at the metadata address; guests on the bridge."""

    def __init__(self, net: ProvisioningNet, stack: ExitStack, guest: BuiltGuest) -> None:
        self._net = net
        self._stack = stack
        self._guest = guest
        self._number = 0
        self._www = net.directory / "www"

    def serve(self, *, user_data: str, index: str) -> None:
        """User data, and what a peer serves, at all addresses of the namespace."""
        latest = self._www / "openstack/latest"
        latest.mkdir(parents=True)
        (latest / "user_data").write_text(user_data)
        (self._www / "index.html").write_text(index)
        (self._www / "block").write_bytes(bytes(262144))
        run("ip", "-n", self._net.name, "addr", "add", f"{METADATA}/32", "dev", "lo")
        web = ["busybox", "httpd", "-f", "-p", "80", "-h", str(self._www)]
        self._start(web, "web.log")
        # The route to the metadata service comes with the lease, as from neutron where there is no router.
        routes = f"--dhcp-option=option:classless-static-route,{METADATA}/32,{SERVER},0.0.0.0/0,{SERVER}"
        dhcp = ["dnsmasq", "--conf-file=/dev/null", "--keep-in-foreground", "--port=0", f"--interface={BRIDGE}", routes]
        dhcp += ["--dhcp-range=10.77.0.20,10.77.0.30,1h", "--dhcp-option=option:mtu,1446", "--no-ping"]
        dhcp += [f"--dhcp-host={mac(n)},{address(n)}" for n in range(2)]
        self._start([*dhcp, f"--dhcp-leasefile={self._net.directory}/leases", "--user=root"], "dhcp.log")

    def add_address(self, wanted: str) -> None:
        """The web server is at this address too."""
        run("ip", "-n", self._net.name, "addr", "add", f"{wanted}/32", "dev", BRIDGE)

    def boot(self, *, memory_mib: int = 128) -> Guest:
        """A further guest runs."""
        number, self._number = self._number, self._number + 1
        home = self._net.directory / f"guest{number}"
        home.mkdir()
        for name, size in (("root", 1 << 20), ("volume", 64 << 20)):
            with (home / name).open("wb") as file:
                file.truncate(size)
        tap = self._net.add_tap(f"tap{number}")
        machine = ["qemu-system-x86_64", "-machine", "pc", "-accel", "tcg", "-cpu", "qemu64", "-m", str(memory_mib)]
        machine += ["-display", "none", "-nodefaults", "-serial", f"file:{home}/console"]
        machine += ["-monitor", f"unix:{home}/monitor,server=on,wait=off"]
        machine += ["-netdev", f"tap,id=n0,ifname={tap},script=no,downscript=no"]
        machine += ["-device", f"virtio-net-pci,netdev=n0,mac={mac(number)},romfile="]
        machine += ["-drive", f"file={home}/root,format=raw,if=virtio"]
        machine += ["-kernel", str(self._guest.kernel_path), "-initrd", str(self._guest.ramdisk_path)]
        child = self._start([*machine, "-append", "console=ttyS0 quiet"], f"guest{number}.log")
        return Guest(address(number), child, home)

    def _start(self, command: list[str], log: str) -> subprocess.Popen[bytes]:
        inside = self._net.inside(*command)
        return self._stack.enter_context(process(*inside, log=self._net.directory / log))


def mac(number: int) -> str:
    return f"52:54:00:5e:00:{number:02x}"


def address(number: int) -> str:
    return f"10.77.0.{40 + number}"


@contextmanager
def smoke_net() -> Iterator[SmokeNet]:
    with ProvisioningNet() as net, ExitStack() as stack:
        assert os.geteuid() == 0
        yield SmokeNet(net, stack, shared_guest())
