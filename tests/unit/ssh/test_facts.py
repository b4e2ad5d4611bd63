"""Reading what hosts say of themselves: recorded answers, and answers no host should give."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from drivers.ssh.facts import (
    gather_script,
    parse_facts,
    parse_links,
    parse_lsblk,
    parse_os_release,
    parse_sys_block,
    parse_sys_net,
    split_sections,
)
from levier.domain.errors import MalformedReply
from levier.domain.inventory import Disk, Nic

_RECORDED = Path(__file__).parent / "recorded"


def _recorded(name: str) -> str:
    return (_RECORDED / f"{name}.txt").read_text()


def test_a_host_with_veth_ports_bridge_and_tunnel() -> None:
    """Recorded in a network namespace with two veth pairs, a bridge and a VXLAN: only the pairs are ports."""
    facts = parse_facts(_recorded("netns-with-veth"))
    assert (facts.hostname, facts.os_id, facts.os_version) == ("vm", "debian", "12")
    assert (facts.kernel, facts.cpu_count, facts.memory_mib) == ("6.18.44-fc-v509", 2, 24105)
    assert facts.os_pretty == "Debian GNU/Linux 12 (bookworm)"
    assert facts.machine_id == "3d1219c7c4c5404aaa1f6d2a48adfda4"
    assert facts.boot_id == "f1abc2d3-9882-4531-8b3b-6740a32cf9a7"
    assert facts.disks == (Disk(name="vda", size_bytes=274877906944, rotational=True),)
    assert [(nic.name, nic.link) for nic in facts.nics] == [
        ("peer0", True),
        ("eth0", True),
        ("peer1", False),
        ("eth1", False),
    ]
    assert facts.nics[1].mac == "b2:6e:4d:a9:17:2e"


def test_a_debian_13_guest_of_qemu() -> None:
    """Recorded in a guest with a virtio disk, an NVMe disk and two virtio ports."""
    facts = parse_facts(_recorded("qemu-debian-13"))
    assert (facts.os_version, facts.kernel, facts.memory_mib) == ("13", "6.12.107+deb13-cloud-amd64", 463)
    assert facts.disks == (
        Disk(name="vda", size_bytes=2147483648, serial="LV-DISK-1", rotational=True),
        Disk(
            name="nvme0n1",
            size_bytes=1073741824,
            model="QEMU NVMe Ctrl",
            serial="LV-NVME-1",
            wwn="nvme.1b36-4c562d4e564d452d31-51454d55204e564d65204374726c-00000001",
        ),
    )
    assert facts.nics == (
        Nic(name="enp0s5", mac="52:54:00:12:34:01", link=True),
        Nic(name="enp0s6", mac="52:54:00:12:34:02", link=True),
    )


def test_the_script_runs_under_a_posix_shell_here() -> None:
    """What dash makes of the script on this machine can be read, whatever this machine is."""
    done = subprocess.run(["dash", "-c", gather_script()], capture_output=True, text=True)
    facts = parse_facts(done.stdout)
    assert facts.kernel == subprocess.run(["uname", "-r"], capture_output=True, text=True).stdout.strip()
    assert facts.cpu_count >= 1


def test_every_cut_of_the_answer_is_noticed() -> None:
    whole = _recorded("netns-with-veth")
    end = whole.index("==levier:end==")
    for length in range(0, end, 97):
        with pytest.raises(MalformedReply):
            parse_facts(whole[:length])


@pytest.mark.parametrize("section", ["hostname", "kernel", "os-release", "boot-id", "cpus", "meminfo"])
def test_a_missing_fact_is_named(section: str) -> None:
    sections = split_sections(_recorded("netns-with-veth"))
    text = "".join(f"==levier:{name}==\n{'' if name == section else body}\n" for name, body in sections.items())
    with pytest.raises(MalformedReply, match=section):
        parse_facts(text)


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ("MemTotal:       24684100 kB", "MemTotal: lots"),
        ('"blockdevices"', '"devices"'),
        ("==levier:cpus==\n2", "==levier:cpus==\ntwo"),
        ('"address":"a6', '"adress":"a6'),
    ],
)
def test_an_unreadable_fact_is_a_malformed_reply(good: str, bad: str) -> None:
    text = _recorded("netns-with-veth")
    assert good in text
    with pytest.raises(MalformedReply, match="cannot be read"):
        parse_facts(text.replace(good, bad))


def test_chatter_of_the_login_shell_does_not_matter() -> None:
    text = "Welcome!\n==levier-not a section\n" + _recorded("netns-with-veth")
    assert parse_facts(text) == parse_facts(_recorded("netns-with-veth"))


def test_lsblk_keeps_fixed_writable_disks_only() -> None:
    """Composed from lsblk's documented columns, with the strings that versions before 2.37 print for numbers."""
    blank = {"model": None, "serial": None, "wwn": None, "rota": "0", "ro": "0", "rm": "0", "type": "disk"}
    devices = [
        {
            **blank,
            "name": "nvme0n1",
            "size": "960197124096",
            "model": "SAMSUNG MZQL2  ",
            "serial": "S64G",
            "wwn": "eui.1",
        },
        {**blank, "name": "sda", "size": "4000787030016", "rota": "1"},
        {**blank, "name": "sdb", "size": "0"},
        {**blank, "name": "sdc", "size": "16008609792", "rm": "1"},
        {**blank, "name": "sdd", "size": "4096", "ro": "1"},
        {**blank, "name": "sr0", "size": "1073741312", "type": "rom"},
        {**blank, "name": "loop0", "size": "4096", "type": "loop"},
        {**blank, "name": "zram0", "size": "4096"},
    ]
    assert parse_lsblk(json.dumps({"blockdevices": devices})) == (
        Disk(name="nvme0n1", size_bytes=960197124096, model="SAMSUNG MZQL2", serial="S64G", wwn="eui.1"),
        Disk(name="sda", size_bytes=4000787030016, rotational=True),
    )


def test_a_host_without_lsblk_and_iproute2() -> None:
    assert parse_sys_block("vda|41943040||LV01||1|0|0\nsr0|4|QEMU DVD|||1|0|1\nnbd0|0||||0|0|0") == (
        Disk(name="vda", size_bytes=20 * 2**30, serial="LV01", rotational=True),
    )
    listing = "eth0|1|52:54:00:AA:BB:CC|1|\nbr0|1|52:54:00:aa:bb:cc|0|bridge\nlo|772|00:00:00:00:00:00|1|"
    assert parse_sys_net(listing) == (Nic(name="eth0", mac="52:54:00:aa:bb:cc", link=True),)


def test_a_port_in_a_bond_shows_its_own_address() -> None:
    common = {"link_type": "ether", "address": "52:54:00:00:00:01", "flags": ["UP", "LOWER_UP"]}
    links = [
        {**common, "ifname": "eno1"},
        {**common, "ifname": "eno2", "permaddr": "52:54:00:00:00:02", "linkinfo": {"info_slave_kind": "bond"}},
        {**common, "ifname": "bond0", "linkinfo": {"info_kind": "bond"}},
    ]
    assert [(nic.name, nic.mac) for nic in parse_links(json.dumps(links))] == [
        ("eno1", "52:54:00:00:00:01"),
        ("eno2", "52:54:00:00:00:02"),
    ]


def test_os_release_is_unquoted_as_a_shell_would() -> None:
    text = '# comment\nID=debian\nPRETTY_NAME="A \\"b\\" c"\nVERSION_ID=\'13\'\nEMPTY=\n\n'
    assert parse_os_release(text) == {"ID": "debian", "PRETTY_NAME": 'A "b" c', "VERSION_ID": "13", "EMPTY": ""}
