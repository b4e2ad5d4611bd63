"""The firmware of one `nspawn` machine: network boot or disk boot, at native speed, in a process of its own.

Started in new network and mount namespaces, which end with its last process. From the network it does what iPXE and
the deploy ramdisk would do; from the disk it becomes systemd-nspawn with the disk's root file system.
Exit status: 0 the machine is to be powered off, 133 it is to be rebooted (as systemd-nspawn itself says it).
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from levier.domain.bmc import BootDevice
from levier.domain.errors import DriverError, LevierError, NotFound
from levier.lab.commands import run_program
from levier.lab.fault_board import DaemonFaults
from levier.lab.guest import dhcp
from levier.lab.guest.agent import Agent
from levier.lab.guest.blocking import BlockingWire, ImageDisk, patiently, run_blocking
from levier.lab.guest.disk import grow_root, mount_root
from levier.lab.guest.events import EventPipe
from levier.lab.guest.http import HttpRefused, drain, fetch
from levier.lab.guest.ipxe import Fetchers, Ipxe, ScriptFailed, Verdict
from levier.lab.guest.mishaps import Mishaps
from levier.lab.layout import Layout
from levier.lab.ledger import EventKind
from levier.lab.network import add_port, without_checksum_offload
from levier.lab.spec import NodeSpec, RackSpec

POWER_OFF = 0
REBOOT = 133
DEFECT = 70


def port_name(rack: RackSpec, node: NodeSpec) -> str:
    """The name of the machine's port on the bridge."""
    return f"port{rack.nodes.index(node)}"


class Firmware:
    """The firmware of one machine during one boot."""

    def __init__(self, *, layout: Layout, rack: RackSpec, node: NodeSpec, events: EventPipe) -> None:
        self._layout = layout
        self._rack = rack
        self._node = node
        self._events = events
        self._directory = layout.node(node.name)
        self._mishaps = Mishaps(DaemonFaults(layout, node=node.name))

    def boot(self, device: BootDevice) -> int:
        """Boots; returns the exit status, or becomes the operating system and does not return."""
        self._plug_in()
        if device is BootDevice.PXE:
            status = self._boot_network()
            if status is not None:
                return status
            _say("network boot failed, going on with the disk")
        return self._boot_disk()

    def _plug_in(self) -> None:
        """The machine's only interface has its MAC and a port on the bridge."""
        namespace, port = self._rack.namespace, port_name(self._rack, self._node)
        add_port(namespace, port, peer=f"{dhcp.INTERFACE} address {self._node.mac} netns {os.getpid()}")
        without_checksum_offload(namespace, port)
        run_program(["ethtool", "-K", dhcp.INTERFACE, "tx", "off"])
        run_program(["ip", "link", "set", "lo", "up"])
        run_program(["ip", "link", "set", dhcp.INTERFACE, "up"])

    # --- from the network ------------------------------------------------------------------------------------------
    def _boot_network(self) -> int | None:
        """The exit status after a network boot, or None when it did not come to one."""
        try:
            lease = dhcp.request_lease(self._directory, firmware=self._node.firmware)
            if not lease.boot_file.startswith("http://"):
                raise NotFound(f"DHCP offers {lease.boot_file!r} instead of the address of a boot script")
            ipxe = self._interpreter(lease)
            verdict = run_blocking(ipxe.chain(lease.boot_file))
        except (LevierError, ScriptFailed) as error:
            _say(f"network boot: {error}")
            self._events.tell(EventKind.FIRMWARE, netboot_failed=str(error))
            return None
        if verdict is Verdict.BOOT:
            return self._ramdisk(ipxe.command_line or "")
        return {Verdict.REBOOT: REBOOT, Verdict.POWER_OFF: POWER_OFF, Verdict.EXIT: None}[verdict]

    def _interpreter(self, lease: dhcp.Lease) -> Ipxe:
        settings = {
            "mac": self._node.mac,
            "ip": lease.address,
            "next-server": lease.server,
            "serial": self._node.serial,
            "manufacturer": "Levier",
            "product": "Virtual Node",
            "buildarch": "x86_64",
            "platform": "efi" if self._node.firmware.value == "uefi" else "pcbios",
        }
        fetchers = Fetchers(
            script=patiently(self._fetch_script), file=patiently(drain), sleep=BlockingWire().sleep, say=_say
        )
        return Ipxe(fetchers=fetchers, settings=settings)

    def _fetch_script(self, url: str) -> bytes:
        try:
            script = fetch(url)
        except HttpRefused as error:
            self._events.tell(EventKind.NETBOOT_SCRIPT, url=url, status=error.status)
            raise
        except DriverError as error:
            self._events.tell(EventKind.NETBOOT_SCRIPT, url=url, error=str(error))
            raise
        self._events.tell(EventKind.NETBOOT_SCRIPT, url=url, status=200)
        return script

    def _ramdisk(self, command_line: str) -> int:
        """Does the deploy ramdisk's work. A machine whose ramdisk cannot start stays on and does nothing."""
        options = dict(word.split("=", 1) for word in command_line.split() if "=" in word)
        if not {"levier.url", "levier.token"} <= options.keys():
            self._events.tell(EventKind.FIRMWARE, not_for_levier="the kernel's command line names no boot service")
            _hang("this kernel is not Levier's deploy ramdisk")
        if self._mishaps.hangs("claim"):
            _hang("the ramdisk hangs")
        agent = Agent(
            boot_url=options["levier.url"].rstrip("/"),
            token=options["levier.token"],
            inventory=self._inventory(),
            wire=BlockingWire(),
            disk=ImageDisk(
                self._layout.disk(self._node.name),
                mount_point=self._directory / "root",
                written=self._events.written,
                mishaps=self._mishaps,
            ),
            say=_say,
        )
        return REBOOT if run_blocking(agent.run()) == "reboot" else POWER_OFF

    def _inventory(self) -> dict[str, object]:
        # By hand and not as a domain type: importing pydantic would double the start-up time of a hundred firmwares.
        return {
            "serial": self._node.serial,
            "vendor": "Levier",
            "product": "Virtual Node",
            "firmware": self._node.firmware.value,
            "cpu_model": "levier-lab nspawn",
            "cpu_count": os.cpu_count() or 1,
            "memory_mib": self._node.memory_mib,
            "disk.vda.size_bytes": self._layout.disk(self._node.name).stat().st_size,
            "disk.vda.serial": self._node.disk_serial,
            "disk.vda.rotational": 0,
            f"nic.{dhcp.INTERFACE}.mac": self._node.mac,
            f"nic.{dhcp.INTERFACE}.link": 1,
        }

    # --- from the disk ---------------------------------------------------------------------------------------------
    def _boot_disk(self) -> NoReturn:
        root = self._directory / "root"
        if self._mishaps.never_returns():
            _hang("nothing more happens")
        try:
            grow_root(self._layout.disk(self._node.name))
            mount_root(self._layout.disk(self._node.name), root)
            if not (root / "sbin/init").is_symlink() and not (root / "sbin/init").exists():
                raise NotFound("the root file system has no /sbin/init")
        except LevierError as error:
            self._events.tell(EventKind.NO_BOOTABLE_DEVICE, cause=str(error))
            _hang(f"no bootable device: {error}")
        run_program(["ip", "address", "flush", "dev", dhcp.INTERFACE])
        self._events.tell(EventKind.OS_START)
        os.environ["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
        # The host's own network settings are writable for it, as on a real host; the kernel's are not.
        os.environ["SYSTEMD_NSPAWN_API_VFS_WRITABLE"] = "network"
        argv = self._container(root)
        os.execvp(argv[0], argv)  # noqa: S606 - the machine becomes its operating system, under the same process id

    def _container(self, root: Path) -> list[str]:
        return [
            *("systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--console=pipe", "--boot"),
            f"--directory={root}",
            f"--machine={machine_name(self._rack, self._node)}",
            "--network-namespace-path=/proc/self/ns/net",
            *("--capability=all", "--resolv-conf=off", "--timezone=off", "--link-journal=no"),
        ]


def machine_name(rack: RackSpec, node: NodeSpec) -> str:
    """The container's name, unique on the host."""
    return f"{rack.namespace}-{node.name}"


def _say(text: str) -> None:
    print(text, flush=True)


def _hang(text: str) -> NoReturn:
    """Shows the text on the console and stays, as a machine does, until the power goes."""
    _say(text)
    while True:
        signal.pause()


def _guarded(work: Callable[[], int]) -> int:
    try:
        return work()
    except Exception:  # noqa: BLE001 - the console shows it, the daemon records a crash
        traceback.print_exc()
        return DEFECT


def main() -> int:
    """Runs one boot; see the module's description."""
    parser = argparse.ArgumentParser(prog="levier.lab.firmware")
    parser.add_argument("--dir", type=Path, required=True)
    parser.add_argument("--node", required=True)
    parser.add_argument("--boot", type=BootDevice, required=True)
    parser.add_argument("--events-fd", type=int, required=True)
    options = parser.parse_args()
    layout = Layout(options.dir)
    rack = RackSpec.from_json(layout.spec.read_text(encoding="utf-8"))
    events = EventPipe(options.events_fd)
    firmware = Firmware(layout=layout, rack=rack, node=rack.node(options.node), events=events)
    return _guarded(lambda: firmware.boot(options.boot))


if __name__ == "__main__":
    sys.exit(main())
