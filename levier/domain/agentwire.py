"""The text the deploy agent and the boot service exchange: one `key=value` per line (docs/agent-protocol.md).

Everything here is pure. What comes from a machine is untrusted: bytes that are no UTF-8 and control characters are
replaced (a disk's model string may hold anything, and ends up on an operator's terminal), sizes are bounded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from levier.domain.bootentry import Instruction
from levier.domain.errors import InvalidRequest
from levier.domain.inventory import Disk, Inventory, Nic
from levier.domain.netboot import AgentAction, AgentReport, AgentStage, ReportState

MAX_INVENTORY_BYTES = 256 * 1024
MAX_REPORT_BYTES = 16 * 1024
MAX_DETAIL_CHARS = 4000
MAX_VALUE_CHARS = 4096

_KEY = re.compile(r"[A-Za-z0-9_.:@!-]{1,128}")
_NUMBER = re.compile(r"[0-9]{1,18}")
# 6 octets for Ethernet; IPoIB has 20 (RFC 4391 section 9.1.1), FireWire and EUI-64 links 8.
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5,19}")
_ETHERNET = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def parse_pairs(body: bytes) -> dict[str, str]:
    """The keys and values of `body`. Empty lines are skipped; the value is everything after the first `=`.

    Raises InvalidRequest for a line without `=`, a malformed or repeated key, and an overlong value, naming the line.
    """
    pairs: dict[str, str] = {}
    for number, line in enumerate(body.decode("utf-8", errors="replace").split("\n"), start=1):
        text = _CONTROL.sub(" ", line).strip()
        if not text:
            continue
        key, separator, value = text.partition("=")
        if not separator or not _KEY.fullmatch(key):
            raise InvalidRequest(f"line {number} is not of the form key=value")
        if key in pairs:
            raise InvalidRequest(f"line {number} repeats the key {key}")
        if len(value) > MAX_VALUE_CHARS:
            raise InvalidRequest(f"line {number}: the value of {key} is longer than {MAX_VALUE_CHARS} characters")
        pairs[key] = value.strip()
    return pairs


def render_pairs(pairs: Iterable[tuple[str, str]]) -> str:
    """One `key=value` per line; line breaks and other control characters in values become spaces."""
    return "".join(f"{key}={_CONTROL.sub(' ', value)}\n" for key, value in pairs)


def parse_mac(text: str) -> str:
    """The Ethernet address `text` (colons or hyphens, any case) in lower case with colons.

    Raises InvalidRequest for anything else.
    """
    mac = text.lower().replace("-", ":")
    if not _ETHERNET.fullmatch(mac):
        raise InvalidRequest("not a MAC address", hint="write it as 52-54-00-aa-bb-cc")
    return mac


def parse_inventory(body: bytes) -> Inventory:
    """The machine a claim describes. Keys this version does not know are ignored: a newer agent may send them.

    Raises InvalidRequest for a malformed line, number, flag or MAC, and for a disk without size or a NIC without MAC.
    """
    pairs = parse_pairs(body)
    firmware = pairs.get("firmware", "")
    if firmware not in ("", "bios", "uefi"):
        raise InvalidRequest("firmware is neither bios nor uefi")
    return Inventory(
        serial=pairs.get("serial", ""),
        vendor=pairs.get("vendor", ""),
        product=pairs.get("product", ""),
        cpu_model=pairs.get("cpu_model", ""),
        cpu_count=_number(pairs, "cpu_count"),
        memory_mib=_number(pairs, "memory_mib"),
        firmware=firmware,
        disks=tuple(_disk(name, fields) for name, fields in _devices(pairs, "disk")),
        nics=tuple(_nic(name, fields) for name, fields in _devices(pairs, "nic")),
    )


def parse_report(body: bytes) -> AgentReport:
    """The report in `body`, its detail cut to MAX_DETAIL_CHARS.

    Raises InvalidRequest for an unknown stage or state and for a malformed number.
    """
    pairs = parse_pairs(body)
    try:
        stage = AgentStage(pairs.get("stage", ""))
        state = ReportState(pairs.get("state", ""))
    except ValueError as error:
        raise InvalidRequest(f"unknown stage or state: {error}") from error
    detail = pairs.get("detail", "")[:MAX_DETAIL_CHARS]
    return AgentReport(stage=stage, state=state, detail=detail, bytes_done=_number(pairs, "bytes_done"))


def render_chain(*, boot_url: str) -> str:
    """The static script every iPXE starts with: on to the script of the machine it runs on.

    Without one, or when it fails, iPXE gives up and the firmware goes on with its own boot order.
    """
    return f"#!ipxe\nchain {boot_url}/ipxe/${{netX/mac:hexhyp}} || exit 1\n"


CONSOLE_ARGUMENTS = "loglevel=4 console=tty0 console=ttyS0,115200"
"""Both consoles. Warnings and worse only: a kernel at its usual level shows its command line, which has the token."""


def render_script(*, boot_url: str, entry_id: str, token: str, mac: str) -> str:
    """The script of one boot entry. It holds a one-time token: never to be cached or logged."""
    entry = f"{boot_url}/boot/{entry_id}"
    arguments = f"initrd=ramdisk levier.url={boot_url} levier.token={token} levier.mac={mac}"
    return (
        f"#!ipxe\nkernel {entry}/kernel {arguments} {CONSOLE_ARGUMENTS}\ninitrd --name ramdisk {entry}/ramdisk\nboot\n"
    )


def render_instruction(instruction: Instruction, *, boot_url: str) -> str:
    """What an agent that asks now is answered; `boot_url` is BOOT of the protocol, without a slash at its end."""
    if not instruction.is_handed_out:
        return render_pairs([("action", AgentAction.WAIT.value)])
    pairs = [("action", instruction.action.value)]
    if instruction.reason:
        pairs.append(("reason", instruction.reason))
    if instruction.action is AgentAction.WRITE and instruction.image is not None:
        image = instruction.image
        pairs += [
            ("disk", instruction.disk),
            ("image_url", f"{boot_url}/images/{image.sha256}"),
            ("image_sha256", image.sha256),
            ("image_size_bytes", str(image.size_bytes)),
            ("raw_size_bytes", str(image.raw_size_bytes)),
            ("seed_url", f"{boot_url}/agent/seed"),
        ]
    return render_pairs(pairs)


def _devices(pairs: Mapping[str, str], kind: str) -> list[tuple[str, dict[str, str]]]:
    """The `kind.NAME.field` keys by NAME, in order of appearance. NAME may hold dots (`eth0.100`)."""
    devices: dict[str, dict[str, str]] = {}
    for key, value in pairs.items():
        prefix, _, rest = key.partition(".")
        name, _, field = rest.rpartition(".")
        if prefix == kind and name:
            devices.setdefault(name, {})[field] = value
    return list(devices.items())


def _disk(name: str, fields: Mapping[str, str]) -> Disk:
    if "size_bytes" not in fields:
        raise InvalidRequest(f"disk.{name}.size_bytes is missing")
    return Disk(
        name=name,
        size_bytes=_number(fields, "size_bytes"),
        model=fields.get("model", ""),
        serial=fields.get("serial", ""),
        wwn=fields.get("wwn", ""),
        rotational=_flag(fields, "rotational"),
    )


def _nic(name: str, fields: Mapping[str, str]) -> Nic:
    mac = fields.get("mac", "").lower()
    if not _MAC.fullmatch(mac):
        raise InvalidRequest(f"nic.{name}.mac is missing or not a MAC address")
    return Nic(name=name, mac=mac, link=_flag(fields, "link"))


def _number(fields: Mapping[str, str], key: str) -> int:
    text = fields.get(key, "")
    if text and not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"{key} is not a whole number of at most 18 digits")
    return int(text or 0)


def _flag(fields: Mapping[str, str], key: str) -> bool:
    text = fields.get(key, "0")
    if text not in ("", "0", "1"):
        raise InvalidRequest(f"{key} is neither 0 nor 1")
    return text == "1"
