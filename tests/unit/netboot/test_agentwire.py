"""The agent's text form: what is understood, what is refused with a reason, and that nothing else can happen."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain import agentwire
from levier.domain.bootentry import Instruction
from levier.domain.errors import InvalidRequest
from levier.domain.inventory import Disk, Inventory, Nic
from levier.domain.netboot import AgentAction, AgentReport, AgentStage, ImageRef, ReportState

FULL = b"""serial=LV0001
vendor=Dell Inc.
product=PowerEdge R650
firmware=uefi
cpu_model=Intel(R) Xeon(R) = fast
cpu_count=64
memory_mib=524288

disk.nvme0n1.size_bytes=960197124096
disk.nvme0n1.model=SAMSUNG MZ
disk.nvme0n1.serial=S1
disk.nvme0n1.wwn=eui.0025
disk.nvme0n1.rotational=0
disk.sda.size_bytes=4000
disk.sda.rotational=1
nic.eth0.100.mac=52:54:00:AA:BB:CC
nic.eth0.100.link=1
nic.ib0.mac=80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2
"""


def test_inventory_in_full() -> None:
    infiniband = "80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:31:78:f2"
    assert agentwire.parse_inventory(FULL) == Inventory(
        serial="LV0001",
        vendor="Dell Inc.",
        product="PowerEdge R650",
        firmware="uefi",
        cpu_model="Intel(R) Xeon(R) = fast",
        cpu_count=64,
        memory_mib=524288,
        disks=(
            Disk(name="nvme0n1", size_bytes=960197124096, model="SAMSUNG MZ", serial="S1", wwn="eui.0025"),
            Disk(name="sda", size_bytes=4000, rotational=True),
        ),
        nics=(Nic(name="eth0.100", mac="52:54:00:aa:bb:cc", link=True), Nic(name="ib0", mac=infiniband)),
    )


def test_absent_keys_are_unknown_and_new_keys_ignored() -> None:
    assert agentwire.parse_inventory(b"") == Inventory()
    assert agentwire.parse_inventory(b"tpm=2.0\r\nserial=A\r\n") == Inventory(serial="A")


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"serial=A\nnonsense\n", "line 2 is not of the form"),
        (b"=A", "line 1 is not of the form"),
        (b"serial=A\nserial=B", "line 2 repeats the key serial"),
        (b"cpu_count=two", "cpu_count is not a whole number"),
        (b"cpu_count=-2", "cpu_count is not a whole number"),
        ("cpu_count=２".encode(), "cpu_count is not a whole number"),
        (b"memory_mib=" + b"9" * 30, "at most 18 digits"),
        (b"firmware=coreboot", "firmware is neither"),
        (b"disk.sda.model=X", "disk.sda.size_bytes is missing"),
        (b"disk.sda.size_bytes=1\ndisk.sda.rotational=yes", "rotational is neither 0 nor 1"),
        (b"nic.eth0.link=1", "nic.eth0.mac is missing"),
        (b"nic.eth0.mac=52:54:00", "not a MAC address"),
        (b"serial=" + b"x" * 5000, "longer than"),
    ],
)
def test_malformed_inventory_is_refused_with_its_reason(body: bytes, cause: str) -> None:
    with pytest.raises(InvalidRequest, match=cause):
        agentwire.parse_inventory(body)


def test_what_a_machine_sends_cannot_drive_a_terminal() -> None:
    parsed = agentwire.parse_inventory(b"serial=\x1b[2J\x07A\xff\xc2\x9b1mB")
    assert parsed.serial == "[2J A\ufffd 1mB"
    assert all(c.isprintable() for c in parsed.serial)


@given(st.binary(max_size=2000))
def test_any_bytes_are_parsed_or_refused(body: bytes) -> None:
    for parse in (agentwire.parse_inventory, agentwire.parse_report):
        try:
            parsed = parse(body)
        except InvalidRequest:
            continue
        assert parsed.model_dump_json()


_TEXT = st.text(alphabet=string.printable + "é€\u2028\x85", max_size=80)
_LINES = st.lists(st.tuples(st.sampled_from(["serial", "disk.a.size_bytes", "nic.b.mac", "cpu_count"]), _TEXT))


@given(_LINES)
def test_lines_that_look_right_are_parsed_or_refused(lines: list[tuple[str, str]]) -> None:
    try:
        parsed = agentwire.parse_inventory("\n".join(f"{k}={v}" for k, v in lines).encode())
    except InvalidRequest:
        return
    assert all(disk.size_bytes >= 0 for disk in parsed.disks)
    assert all(c.isprintable() for c in parsed.serial)


@given(st.dictionaries(st.from_regex(r"[a-z_.]{1,20}", fullmatch=True), _TEXT))
def test_what_is_rendered_is_one_line_each_and_reads_back(pairs: dict[str, str]) -> None:
    text = agentwire.render_pairs(pairs.items())
    assert text.count("\n") == len(pairs)
    read = agentwire.parse_pairs(text.encode())
    # A line break became a space; spaces at the ends do not count.
    assert list(read) == list(pairs)
    plain = {k: v.strip() for k, v in pairs.items() if all(c.isprintable() for c in v)}
    assert {k: read[k] for k in plain} == plain


@pytest.mark.parametrize("text", ["52-54-00-AA-bb-cc", "52:54:00:aa:bb:cc"])
def test_mac_forms(text: str) -> None:
    assert agentwire.parse_mac(text) == "52:54:00:aa:bb:cc"


@pytest.mark.parametrize("text", ["", "52-54-00-aa-bb", "../etc/passwd", "52-54-00-aa-bb-cc\n", "5g-54-00-aa-bb-cc"])
def test_other_macs_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        agentwire.parse_mac(text)


def test_report() -> None:
    report = agentwire.parse_report(b"stage=write\nstate=progress\nbytes_done=1048576\n")
    assert report == AgentReport(stage=AgentStage.WRITE, state=ReportState.PROGRESS, bytes_done=1048576)
    failed = agentwire.parse_report(b"stage=verify\nstate=failed\ndetail=digest is a, not b\n")
    assert failed.detail == "digest is a, not b"
    for body in (b"stage=write", b"stage=paint\nstate=done", b"stage=write\nstate=done\nbytes_done=1.5"):
        with pytest.raises(InvalidRequest):
            agentwire.parse_report(body)


IMAGE = ImageRef(name="debian-12", sha256="ab" * 32, size_bytes=100, raw_size_bytes=2000)
WRITE = Instruction(version=2, action=AgentAction.WRITE, disk="vda", image=IMAGE)


def test_write_instruction_golden() -> None:
    assert agentwire.render_instruction(WRITE, boot_url="http://10.77.0.1:8480") == (
        "action=write\n"
        "disk=vda\n"
        f"image_url=http://10.77.0.1:8480/images/{IMAGE.sha256}\n"
        f"image_sha256={IMAGE.sha256}\n"
        "image_size_bytes=100\n"
        "raw_size_bytes=2000\n"
        "seed_url=http://10.77.0.1:8480/agent/seed\n"
    )


def test_refusal_names_its_reason_on_one_line() -> None:
    refuse = Instruction(version=2, action=AgentAction.REFUSE, reason="serial is A,\nnot B")
    assert agentwire.render_instruction(refuse, boot_url="http://x") == "action=refuse\nreason=serial is A, not B\n"


def test_scripts_golden() -> None:
    boot = "http://10.77.0.1:8480"
    assert agentwire.render_chain(boot_url=boot) == (
        "#!ipxe\nchain http://10.77.0.1:8480/ipxe/${netX/mac:hexhyp} || exit 1\n"
    )
    assert agentwire.render_script(boot_url=boot, entry_id="e1", token="T", mac="52:54:00:aa:bb:cc") == (
        "#!ipxe\n"
        "kernel http://10.77.0.1:8480/boot/e1/kernel initrd=ramdisk levier.url=http://10.77.0.1:8480 levier.token=T "
        "levier.mac=52:54:00:aa:bb:cc loglevel=4 console=tty0 console=ttyS0,115200\n"
        "initrd --name ramdisk http://10.77.0.1:8480/boot/e1/ramdisk\n"
        "boot\n"
    )
