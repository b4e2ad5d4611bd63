"""A provisioning network of the test's own: a bridge in one namespace, machines in others, nothing on the host."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

SERVER = "10.77.0.1"
BRIDGE = "br0"
_SHOW = '#!/bin/sh\n[ "$1" = bound ] && env > "$OUT"\nexit 0\n'


def run(*command: str, check: bool = True, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s)
    if check and result.returncode != 0:
        raise AssertionError(f"{shlex.join(command)}: {result.stderr}{result.stdout}")
    return result


@dataclass(frozen=True)
class Answer:
    """What a DHCP client was given."""

    address: str
    boot_file: str
    router: str
    dns: str
    next_server: str


class ProvisioningNet:
    """The server's namespace with its bridge; client namespaces and tap devices are added to it."""

    def __init__(self) -> None:
        self.name = f"lvnb{os.getpid()}"
        self._clients: list[str] = []
        # Below /tmp and not below pytest's directory: dnsmasq's user must get there.
        self._home = tempfile.TemporaryDirectory(prefix="levier-netboot-")
        self.directory = Path(self._home.name)
        self.directory.chmod(0o755)

    def __enter__(self) -> ProvisioningNet:
        run("ip", "netns", "add", self.name)
        run("ip", "-n", self.name, "link", "set", "lo", "up")
        run("ip", "-n", self.name, "link", "add", BRIDGE, "type", "bridge", "forward_delay", "0")
        run("ip", "-n", self.name, "addr", "add", f"{SERVER}/24", "dev", BRIDGE)
        run("ip", "-n", self.name, "link", "set", BRIDGE, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for namespace in [*self._clients, self.name]:
            run("ip", "netns", "del", namespace, check=False)
        self._home.cleanup()

    def add_client(self, mac: str) -> DhcpClient:
        """A machine with one NIC on the bridge."""
        number = len(self._clients)
        namespace, port = f"{self.name}c{number}", f"port{number}"
        run("ip", "netns", "add", namespace)
        self._clients.append(namespace)
        peer = ["peer", "name", "eth0", "netns", namespace]
        run("ip", "-n", self.name, "link", "add", port, "type", "veth", *peer)
        run("ip", "-n", self.name, "link", "set", port, "master", BRIDGE, "up")
        run("ip", "-n", namespace, "link", "set", "eth0", "address", mac, "up")
        run("ip", "netns", "exec", namespace, "ethtool", "-K", "eth0", "tx", "off")
        return DhcpClient(namespace, self.directory)

    def add_tap(self, name: str) -> str:
        """A tap device on the bridge, for QEMU."""
        run("ip", "-n", self.name, "tuntap", "add", name, "mode", "tap")
        run("ip", "-n", self.name, "link", "set", name, "master", BRIDGE, "up")
        return name

    def inside(self, *command: str) -> list[str]:
        """The command as run in the server's namespace."""
        return ["ip", "netns", "exec", self.name, *command]


class DhcpClient:
    """busybox's DHCP client in a namespace, in the part of a machine's firmware."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self._script = directory / f"{namespace}.sh"
        self._script.write_text(_SHOW)
        self._script.chmod(0o755)
        self._out = directory / f"{namespace}.env"

    def ask(self, *options: str, tries: int = 20) -> Answer | None:
        """What the server answered, or None when it did not within `tries` seconds."""
        self._out.unlink(missing_ok=True)
        command = ["busybox", "udhcpc", "-i", "eth0", "-n", "-q", "-f", "-t", str(tries), "-T", "1"]
        wrapped = ["ip", "netns", "exec", self.namespace, "env", f"OUT={self._out}", *command]
        run(*wrapped, "-s", str(self._script), *options, check=False)
        if not self._out.exists():
            return None
        env = dict(line.split("=", 1) for line in self._out.read_text().splitlines() if "=" in line)
        boot_file = env.get("bootfile") or env.get("boot_file", "")
        return Answer(env["ip"], boot_file, env.get("router", ""), env.get("dns", ""), env.get("siaddr", ""))

    def bios(self) -> Answer | None:
        """Asks as a BIOS's PXE ROM does (RFC 4578: architecture 0)."""
        return self.ask("-x", "0x5d:0000", "-V", "PXEClient:Arch:00000:UNDI:002001")

    def uefi(self, architecture: int = 7) -> Answer | None:
        """Asks as UEFI firmware does."""
        return self.ask("-x", f"0x5d:{architecture:04x}", "-V", f"PXEClient:Arch:{architecture:05d}:UNDI:003016")

    def ipxe(self) -> Answer | None:
        """Asks as iPXE does: with its own option 175."""
        return self.ask("-x", "0x5d:0000", "-x", "0xaf:b10100", "-V", "PXEClient:Arch:00000:UNDI:002001")

    def configure(self, address: str) -> None:
        """The NIC has the address, as after a successful boot."""
        run("ip", "-n", self.namespace, "addr", "replace", f"{address}/24", "dev", "eth0")

    def fetch(self, url: str, *, timeout_s: int = 30) -> bytes:
        """What curl gets from `url`."""
        command = ["ip", "netns", "exec", self.namespace, "curl", "-sS", "--fail", "-m", str(timeout_s), url]
        result = subprocess.run(command, capture_output=True, timeout=timeout_s + 5)
        if result.returncode != 0:
            raise AssertionError(f"{url}: {result.stderr.decode()}")
        return result.stdout
