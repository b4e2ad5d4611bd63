"""What a host is: one script that asks everything in one round trip, and pure functions that read its answer."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from importlib import resources
from typing import Any

from levier.domain.errors import MalformedReply
from levier.domain.inventory import Disk, HostFacts, Nic

_SECTION = re.compile(r"^==levier:([a-z-]+)==$", re.MULTILINE)
_SECTOR_BYTES = 512
"""/sys/block/*/size counts sectors of 512 bytes whatever the disk's own are (Documentation/ABI/stable/sysfs-block)."""
_PHYSICAL_KINDS = frozenset({"", "veth"})
"""Kinds of ip-link(8) that stand for a port of the machine: a card has none, a container's port is a veth."""
_NO_DISKS = ("zram", "ram", "loop")


def gather_script() -> str:
    """The POSIX shell script whose output `parse_facts` reads. It changes nothing on the host."""
    return resources.files("drivers.ssh").joinpath("gather_facts.sh").read_text(encoding="utf-8")


def parse_facts(output: str) -> HostFacts:
    """The facts in the script's output. Raises MalformedReply naming the section that is missing or unreadable."""
    sections = split_sections(output)
    release = parse_os_release(_required(sections, "os-release"))
    try:
        return HostFacts(
            hostname=_required(sections, "hostname"),
            os_id=release.get("ID", "linux"),
            os_version=release.get("VERSION_ID", ""),
            os_pretty=release.get("PRETTY_NAME", "Linux"),
            kernel=_required(sections, "kernel"),
            machine_id=sections.get("machine-id", ""),
            boot_id=_required(sections, "boot-id"),
            cpu_count=int(_required(sections, "cpus")),
            memory_mib=parse_memory_mib(_required(sections, "meminfo")),
            disks=parse_lsblk(sections.get("lsblk", "")) or parse_sys_block(sections.get("sysblock", "")),
            nics=parse_links(sections.get("links", "")) or parse_sys_net(sections.get("sysnet", "")),
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise MalformedReply(
            f"the host's facts cannot be read: {error}", hint="Run the same commands on the host by hand."
        ) from error


def split_sections(output: str) -> dict[str, str]:
    """Each section's text by name, stripped. Raises MalformedReply when the output was cut off."""
    parts = _SECTION.split(output)
    sections = {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
    if "end" not in sections:
        raise MalformedReply("the host's facts are cut off", hint="Check that the login shell is a POSIX shell.")
    return sections


def _required(sections: Mapping[str, str], name: str) -> str:
    if value := sections.get(name, ""):
        return value
    raise MalformedReply(f"the host told nothing of its {name}", hint="Check that /proc and /etc are readable there.")


def parse_os_release(text: str) -> dict[str, str]:
    """The variables of os-release(5), unquoted as a shell would."""
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line and not line.lstrip().startswith("#"))
    return {name.strip(): "".join(shlex.split(value)[:1]) for name, value in pairs}


def parse_memory_mib(line: str) -> int:
    """MiB from the `MemTotal:  16318252 kB` line of proc(5); its kB are KiB."""
    return int(line.split()[1]) // 1024


def parse_lsblk(text: str) -> tuple[Disk, ...]:
    """Disks of lsblk(8) -J, in its order; removable, read-only, empty and memory-backed devices are none."""
    if not text:
        return ()
    return tuple(
        _disk(device)
        for device in json.loads(text)["blockdevices"]
        if device["type"] == "disk"
        and int(device["size"]) > 0
        and not device["name"].startswith(_NO_DISKS)
        and not (_truth(device["ro"]) or _truth(device["rm"]))
    )


def _disk(device: Mapping[str, Any]) -> Disk:
    return Disk(
        name=device["name"],
        size_bytes=int(device["size"]),
        model=(device["model"] or "").strip(),
        serial=(device["serial"] or "").strip(),
        wwn=device["wwn"] or "",
        rotational=_truth(device["rota"]),
    )


def _truth(value: object) -> bool:
    """Versions of lsblk before 2.37 say "1" where later ones say true."""
    return value in (True, "1")


def parse_sys_block(text: str) -> tuple[Disk, ...]:
    """Disks of the script's /sys/block listing, for a host without lsblk."""
    rows = (dict(zip(_SYS_BLOCK, line.split("|"), strict=True)) for line in text.splitlines())
    return tuple(
        _disk({**row, "size": int(row["size"]) * _SECTOR_BYTES})
        for row in rows
        if row["ro"] == row["rm"] == "0" and row["size"] != "0" and not row["name"].startswith(_NO_DISKS)
    )


_SYS_BLOCK = ("name", "size", "model", "serial", "wwn", "rota", "ro", "rm")


def parse_links(text: str) -> tuple[Nic, ...]:
    """Ethernet ports of `ip -j -d link`; bridges, bonds, VLANs and tunnels are no ports of the machine.

    A port in a bond shows its own address (`permaddr`), not the bond's.
    """
    return tuple(
        Nic(
            name=link["ifname"],
            mac=(link.get("permaddr") or link["address"]).lower(),
            link="LOWER_UP" in link.get("flags", ()),
        )
        for link in (json.loads(text) if text else ())
        if link.get("link_type") == "ether" and link.get("linkinfo", {}).get("info_kind", "") in _PHYSICAL_KINDS
    )


def parse_sys_net(text: str) -> tuple[Nic, ...]:
    """Ethernet ports of the script's /sys/class/net listing, for a host without iproute2. ARPHRD_ETHER is 1."""
    rows = (line.split("|") for line in text.splitlines())
    return tuple(
        Nic(name=name, mac=mac.lower(), link=carrier == "1")
        for name, kind, mac, carrier, devtype in rows
        if kind == "1" and not devtype
    )
