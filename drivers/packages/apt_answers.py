"""What apt and dpkg print, as data. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from levier.domain.errors import MalformedReply
from levier.domain.packages import InstalledPackages

_GONE = "not-installed"
# apt-get(8), --simulate: `Inst NAME [OLD] (NEW ORIGIN [ARCH])`, `Remv NAME [VERSION]`, `Purg NAME [VERSION]`.
_INST = re.compile(r"^Inst (?P<name>\S+) (?:\[(?P<old>[^]]+)\] )?\((?P<new>\S+)", re.MULTILINE)
_REMOVAL = re.compile(r"^(?:Remv|Purg) (?P<name>\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Plan:
    """What apt would do."""

    added: Mapping[str, str] = field(default_factory=dict)
    changed: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Name → version now and then."""
    removed: frozenset[str] = frozenset()

    @property
    def unpacked(self) -> tuple[str, ...]:
        """Everything that would be fetched and unpacked, as NAME=VERSION."""
        new = {**self.added, **{name: version for name, (_, version) in self.changed.items()}}
        return tuple(f"{name}={version}" for name, version in sorted(new.items()))


@dataclass(frozen=True, slots=True)
class Offer:
    """What the mirrors offer of one package; no candidate: there is nothing to install under that name."""

    candidate: str | None
    versions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a plan takes, in KiB: the archives to be fetched, and what they unpack to."""

    archives_kib: int
    unpacked_kib: int


def parse_installed(output: str) -> InstalledPackages:
    """The package database as the function `installed` of apt.sh prints it. Raises MalformedReply."""
    head, _, rest = output.partition("\n")
    architecture = head.removeprefix("architecture ")
    rows = [line.split(" ") for line in rest.splitlines() if line.startswith("package ")]
    if not rows or any(len(row) != 6 for row in rows):
        raise MalformedReply("dpkg-query names no packages", hint="Look at /var/lib/dpkg/status on the host.")
    versions, unfinished, residues = {}, {}, set()
    for _, status, flag, package, own, version in rows:
        name = package if own in (architecture, "all") else f"{package}:{own}"
        if status == "installed" and flag == "ok":
            versions[name] = version
        elif status == "config-files":
            residues.add(name)
        elif status != _GONE:
            unfinished[name] = status if flag == "ok" else f"{status}, {flag}"
    return InstalledPackages(
        versions=versions,
        unfinished=unfinished,
        residues=frozenset(residues),
        interrupted="\ninterrupted\n" in output,
    )


def parse_plan(output: str) -> Plan:
    """What `apt-get --simulate` says it would do; nothing, if it names nothing."""
    found = list(_INST.finditer(output))
    return Plan(
        added={match["name"]: match["new"] for match in found if match["old"] is None},
        changed={match["name"]: (match["old"], match["new"]) for match in found if match["old"] is not None},
        removed=frozenset(match["name"] for match in _REMOVAL.finditer(output)),
    )


def parse_offers(output: str) -> dict[str, Offer]:
    """`apt-cache policy` by name; unknown names are missing in it."""
    offers: dict[str, Offer] = {}
    for block in re.split(r"^(?=\S)", output, flags=re.MULTILINE):
        match = re.match(r"(\S+):\n +Installed: .*\n +Candidate: (\S+)\n", block)
        if match:
            candidate = None if match[2] == "(none)" else match[2]
            versions = tuple(re.findall(r"^ (?:\*\*\*|   ) (\S+) -?\d+$", block, re.MULTILINE))
            offers[match[1]] = Offer(candidate, versions)
    return offers


def parse_sizes(output: str) -> Sizes:
    """What the records of `apt-cache show` add up to; a package that is listed twice counts once."""
    records: dict[tuple[str, str], dict[str, str]] = {}
    for block in re.split(r"^(?=Package )", output, flags=re.MULTILINE):
        record = dict(line.split(" ", 1) for line in block.splitlines() if " " in line)
        key = (record.get("Package", ""), record.get("Version", ""))
        # The record of what is installed has no Size.
        records[key] = {**records.get(key, {}), **record}
    return Sizes(
        archives_kib=_sum(records.values(), "Size") // 1024 + len(records),
        unpacked_kib=_sum(records.values(), "Installed-Size"),
    )


def _sum(records: Iterable[Mapping[str, str]], key: str) -> int:
    return sum(int(record.get(key, "0")) for record in records)


def parse_free(output: str) -> list[tuple[str, int]]:
    """Device and free KiB of each path that was asked about. Raises MalformedReply."""
    rows = [line.split() for line in output.splitlines()]
    if not rows or any(len(row) != 2 or not row[1].isdigit() for row in rows):
        raise MalformedReply("df did not tell the free space", hint="Run `df` on the host.")
    return [(device, int(free)) for device, free in rows]


def shortage_kib(sizes: Sizes, *, archives: tuple[str, int], system: tuple[str, int], reserve_kib: int) -> int:
    """How many KiB are missing; 0 or less: it fits. `archives`, `system`: device and free KiB of where each goes."""
    if archives[0] == system[0]:
        return sizes.archives_kib + sizes.unpacked_kib + reserve_kib - system[1]
    return max(sizes.archives_kib - archives[1], sizes.unpacked_kib + reserve_kib - system[1])
