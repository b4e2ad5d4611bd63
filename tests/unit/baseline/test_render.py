"""A baseline's files, byte for byte, and the specifications that are refused.

The golden files are under golden/CASE/PATH; a wanted change of a template is made there by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.baseline import BaselineSpec, FileKind, HostEntry, SysctlSetting, render_baseline

_GOLDEN = Path(__file__).parent / "golden"
_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIL7umpzgdIAhq2tGhuGioaqgzy6wC66uf2CP+GKH/K+g"

_FULL = BaselineSpec(
    revision=3,
    hostname="a1-02",
    domain="paris.example.org",
    hosts=(
        HostEntry(address="10.77.0.12", names=("a1-02.paris.example.org", "a1-02")),
        HostEntry(address="10.77.0.9", names=("a1-01.paris.example.org", "a1-01")),
        HostEntry(address="2001:DB8::A", names=("a1-01.paris.example.org",)),
    ),
    timezone="Europe/Paris",
    ntp_servers=("10.77.0.1", "ntp.example.org"),
    operator_keys=(f"{_KEY} ada@example.org", _KEY),
    sysctls=(
        SysctlSetting(key="net.ipv4.ip_forward", value="1"),
        SysctlSetting(key="net.ipv4.tcp_rmem", value="4096 131072 6291456"),
        SysctlSetting(key="vm.swappiness", value="10", optional=True),
    ),
)
_BARE = BaselineSpec(revision=1, hostname="lonely", domain="example.org")


@pytest.mark.parametrize(("case", "spec"), [("full", _FULL), ("bare", _BARE)])
def test_files_are_as_recorded(case: str, spec: BaselineSpec) -> None:
    rendered = {file.path: file for file in render_baseline(spec)}
    expected = {f"/{path.relative_to(_GOLDEN / case)}": path for path in (_GOLDEN / case).rglob("*") if path.is_file()}
    assert {path for path, file in rendered.items() if file.kind is FileKind.FILE} == set(expected)
    for path, golden in expected.items():
        assert rendered[path].content == golden.read_text(), path


def test_kinds_modes_and_owners() -> None:
    files = {file.path: file for file in render_baseline(_FULL)}
    assert files["/etc/localtime"].kind is FileKind.LINK
    assert files["/etc/localtime"].content == "/usr/share/zoneinfo/Europe/Paris"
    assert files["/root/.ssh/authorized_keys2"].mode == 0o600
    assert {(file.owner, file.group) for file in files.values()} == {("root", "root")}
    assert list(files)[-1] == "/etc/levier/revision"


def test_what_is_not_wanted_is_absent() -> None:
    absent = {file.path for file in render_baseline(_BARE) if file.kind is FileKind.ABSENT}
    assert absent == {
        "/etc/systemd/timesyncd.conf.d/levier.conf",
        "/root/.ssh/authorized_keys2",
        "/etc/sysctl.d/90-levier.conf",
    }


def test_the_order_of_hosts_does_not_matter_to_the_file() -> None:
    turned = _FULL.model_copy(update={"hosts": tuple(reversed(_FULL.hosts))})
    assert {f.path: f.content for f in render_baseline(turned) if f.path == "/etc/hosts"} == {
        f.path: f.content for f in render_baseline(_FULL) if f.path == "/etc/hosts"
    }


def test_the_digest_follows_content_and_not_the_number() -> None:
    assert _FULL.model_copy(update={"revision": 9}).digest == _FULL.digest
    assert _FULL.model_copy(update={"timezone": "Etc/UTC"}).digest != _FULL.digest


def test_a_specification_survives_json() -> None:
    assert BaselineSpec.model_validate_json(_FULL.model_dump_json()) == _FULL


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("net.ipv4.conf.eth0/7.forwarding", "net/ipv4/conf/eth0.7/forwarding"),
        ("net/ipv4/conf/eth0.7/forwarding", "net/ipv4/conf/eth0.7/forwarding"),
        ("kernel.pid_max", "kernel/pid_max"),
    ],
)
def test_sysctl_keys_become_paths_as_sysctl_d_says(key: str, path: str) -> None:
    assert SysctlSetting(key=key, value="1").proc_path == path


@pytest.mark.parametrize(
    "change",
    [
        {"revision": 0},
        {"hostname": "A1"},
        {"hostname": "a.b"},
        {"hostname": "-a"},
        {"hostname": "a" * 64},
        {"hostname": "a\n"},
        {"domain": "no..dots"},
        {"domain": "x\n127.0.0.1 bank"},
        {"hosts": [{"address": "10.0.0.300", "names": ["a"]}]},
        {"hosts": [{"address": "10.0.0.3", "names": []}]},
        {"hosts": [{"address": "10.0.0.3", "names": ["a b"]}]},
        {"timezone": "../../etc/shadow"},
        {"timezone": "/Europe/Paris"},
        {"ntp_servers": ["a b"]},
        {"ntp_servers": ["x\nNTP=y"]},
        {"operator_keys": ["ssh-ed25519 nonsense"]},
        {"operator_keys": [f"{_KEY} a\n{_KEY} b"]},
        {"sysctls": [{"key": "../../etc/passwd", "value": "1"}]},
        {"sysctls": [{"key": "net.ipv4/../x", "value": "1"}]},
        {"sysctls": [{"key": "swappiness", "value": "1"}]},
        {"sysctls": [{"key": "vm.swappiness", "value": "1\nkernel.x = 1"}]},
        {"sysctls": [{"key": "vm.swappiness", "value": ""}]},
        {"sysctls": [{"key": "vm.swappiness", "value": "1"}, {"key": "vm/swappiness", "value": "2"}]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_senseless_specification_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        BaselineSpec.model_validate({"revision": 1, "hostname": "a", **change})
