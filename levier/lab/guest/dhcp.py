"""DHCP as iPXE does it, by busybox's client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from levier.domain.bmc import Firmware
from levier.domain.errors import NotFound, Rejected
from levier.lab.commands import run_program

INTERFACE = "eth0"
_IPXE_USER_CLASS = b"iPXE".hex()
_IPXE_FEATURES = "eb03010000"
"""Option 175 with iPXE's version (ipxe.org/howto/dhcpd); its presence tells a server that this is iPXE."""
_ARCHITECTURE = {Firmware.BIOS: ("0000", "00000"), Firmware.UEFI: ("0007", "00007")}
"""RFC 4578 client architecture: 0 is x86 BIOS, 7 is x86-64 UEFI."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What DHCP said. `boot_file` is empty when there was none."""

    address: str
    prefix_length: int
    router: str
    server: str
    boot_file: str


def request_lease(directory: Path, *, firmware: Firmware) -> Lease:
    """The interface has the leased address. Raises NotFound when no server answered within about 20 s."""
    found, hook = directory / "lease", directory / "dhcp-hook"
    found.unlink(missing_ok=True)
    hook.write_text('#!/bin/sh\n[ "$1" = bound ] && env >"${0%/*}/lease"\nexit 0\n', encoding="ascii")
    hook.chmod(0o700)
    code, text = _ARCHITECTURE[firmware]
    try:
        run_program(
            [
                *("busybox", "udhcpc", "-i", INTERFACE, "-f", "-n", "-q", "-t", "10", "-T", "2", "-s", str(hook)),
                *("-V", f"PXEClient:Arch:{text}:UNDI:002001", "-O", "bootfile"),
                *("-x", f"0x4d:{_IPXE_USER_CLASS}", "-x", f"0xaf:{_IPXE_FEATURES}", "-x", f"0x5d:{code}"),
            ]
        )
    except Rejected as error:
        raise NotFound(f"no DHCP server answered: {error}") from error
    lease = _parse(found.read_text(encoding="utf-8"))
    run_program(["ip", "address", "add", f"{lease.address}/{lease.prefix_length}", "dev", INTERFACE])
    if lease.router:
        run_program(["ip", "route", "replace", "default", "via", lease.router])
    return lease


def _parse(text: str) -> Lease:
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return Lease(
        address=values["ip"],
        prefix_length=int(values.get("mask", "24")),
        router=values.get("router", "").split(" ")[0],
        server=values.get("siaddr", values.get("serverid", "")),
        # dnsmasq answers in the option if it was asked for, else in the header's field.
        boot_file=values.get("bootfile") or values.get("boot_file", ""),
    )
