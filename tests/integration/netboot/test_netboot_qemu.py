"""Real firmware boots over the network: DHCP and TFTP by dnsmasq, everything else by the boot service.

The kernel served here is iPXE itself, in its Linux-kernel and its EFI form: at hand, small, and accepted by firmware
as a kernel. What a deploy ramdisk does after that is shown where the lab deploys nodes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivers.netboot.dnsmasq import DnsmasqHosts, DnsmasqServer
from drivers.netboot.dnsmasq_config import DnsmasqConfig
from levier.domain.netboot import BootPurpose, ProvisioningNetwork
from levier.services.boot import BootEntries
from levier.store import migrate
from levier.store.base import open_engine
from levier.store.boot import BootStore
from tests.integration.netboot.boot_service import SEAL, order, worker_of
from tests.integration.netboot.provisioning_net import BRIDGE, SERVER, ProvisioningNet

pytestmark = pytest.mark.root

MAC = "52:54:00:aa:bb:01"
PORT = 8480
BOOT_S = 180.0


@contextmanager
def process(*command: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdout=output, stderr=output)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def await_line(log: Path, pattern: str, alive: Callable[[], bool]) -> re.Match[str]:
    deadline = time.monotonic() + BOOT_S
    while True:
        text = log.read_text(errors="replace")
        found = re.search(pattern, text)
        if found:
            return found
        assert alive(), f"a process ended; the log holds:\n{text}"
        assert time.monotonic() < deadline, f"no {pattern!r} within {BOOT_S} s; the log holds:\n{text}"
        time.sleep(0.1)  # between two looks at the log


class Rack:
    """A provisioning network with dnsmasq and the boot service on it, and one entry for one machine."""

    def __init__(self, net: ProvisioningNet, entries: BootEntries, access_log: Path, config: DnsmasqConfig) -> None:
        self.net = net
        self.entries = entries
        self.access_log = access_log
        self.config = config

    def boot(self, *firmware: str) -> None:
        """A machine with this firmware fetches script, kernel and ramdisk, in this order."""
        tap = self.net.add_tap("tap0")
        command = [
            *("qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=64", "-cpu", "qemu64"),
            *("-m", "256", "-display", "none", "-nodefaults", "-serial", f"file:{self.net.directory}/console"),
            *("-device", "virtio-rng-pci", "-netdev", f"tap,id=n0,ifname={tap},script=no,downscript=no", *firmware),
        ]
        with process(*self.net.inside(*command), log=self.net.directory / "qemu.log") as machine:
            began = time.monotonic()
            for step in (
                "/boot.ipxe",
                "/ipxe/52-54-00-aa-bb-01",
                "/boot/[0-9a-f]{32}/kernel",
                "/boot/[0-9a-f]{32}/ramdisk",
            ):
                await_line(self.access_log, f"GET '{step}' 200 ", lambda: machine.poll() is None)
                print(f"{step} after {time.monotonic() - began:.1f} s")

    def check(self) -> None:
        """What was seen on the wire is in the database; nothing is served after the withdrawal."""
        view = self.entries.get("a1-01")
        assert view is not None
        assert view.script_fetches >= 1
        assert view.script_fetched_at is not None
        assert not view.is_claimed
        assert DnsmasqHosts(self.config).lease_given(MAC)
        for name in ("kernel", "ramdisk"):
            sizes = re.findall(rf"GET '/boot/[0-9a-f]{{32}}/{name}' 200 (\d+) bytes", self.access_log.read_text())
            file = {"kernel": "vmlinuz", "ramdisk": "ramdisk.img"}[name]
            assert int(sizes[0]) == (self.net.directory / file).stat().st_size
        assert self.entries.withdraw(node="a1-01", by=worker_of("op1"))
        assert not DnsmasqHosts(self.config).lease_given(MAC)


@pytest.fixture
def rack() -> Iterator[Rack]:
    with ProvisioningNet() as net:
        network = ProvisioningNetwork(interface=BRIDGE, server_address=SERVER, prefix_length=24)
        config = DnsmasqConfig(state_dir=net.directory / "dhcp", networks=(network,), http_port=PORT, netns=net.name)
        url = f"sqlite:///{net.directory}/levier.db"
        engine = open_engine(url)
        migrate.upgrade(engine)
        order(engine, "op1")
        entries = BootEntries(BootStore(engine), seal=SEAL, dhcp=DnsmasqHosts(config))
        (net.directory / "ramdisk.img").write_bytes(os.urandom(6 * 1024 * 1024))
        server = DnsmasqServer(config)
        server.start()
        access_log = net.directory / "access.log"
        module = "tests.integration.netboot.serve_boot"
        command = net.inside(sys.executable, "-m", module, url, str(net.directory), SERVER, str(PORT))
        try:
            with process(*command, log=access_log) as service:
                await_line(access_log, "Uvicorn running", lambda: service.poll() is None)
                entries.publish(
                    node="a1-01",
                    mac=MAC,
                    by=worker_of("op1"),
                    purpose=BootPurpose.INSPECT,
                    address="10.77.0.11",
                    hostname="a1-01",
                )
                yield Rack(net, entries, access_log, config)
        finally:
            server.stop()
            engine.dispose()


def test_bios(rack: Rack) -> None:
    shutil.copy("/usr/lib/ipxe/ipxe.lkrn", rack.net.directory / "vmlinuz")
    rack.boot("-device", f"virtio-net-pci,netdev=n0,mac={MAC},bootindex=0")
    rack.check()


def test_uefi_by_its_own_pxe_and_tftp(rack: Rack) -> None:
    """Without an iPXE ROM in the NIC, as on real machines: firmware → TFTP → iPXE → HTTP."""
    shutil.copy("/usr/lib/ipxe/ipxe.efi", rack.net.directory / "vmlinuz")
    variables = rack.net.directory / "vars.fd"
    shutil.copy("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
    code = "if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
    rack.boot(
        *("-drive", code, "-drive", f"if=pflash,format=raw,unit=1,file={variables}"),
        *("-device", f"virtio-net-pci,netdev=n0,mac={MAC},romfile=,bootindex=0"),
    )
    assert "sent /" in rack.config.files.log.read_text(), "iPXE must have come over TFTP"
    assert "snponly.efi" in rack.config.files.log.read_text()
    rack.check()
