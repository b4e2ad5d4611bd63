"""The firmware's reading of iPXE scripts."""

from __future__ import annotations

import time

import pytest

from levier.domain.errors import Unreachable
from levier.lab.guest.blocking import patiently, run_blocking
from levier.lab.guest.ipxe import Fetchers, Ipxe, ScriptFailed, Verdict

BASE = "http://boot/boot.ipxe"


def _ipxe(files: dict[str, str]) -> tuple[Ipxe, list[str], list[str]]:
    fetched: list[str] = []
    said: list[str] = []

    def script(url: str) -> bytes:
        fetched.append(url)
        if url not in files:
            raise Unreachable(f"{url}: 404")
        return ("#!ipxe\n" + files[url]).encode()

    def file(url: str) -> int:
        fetched.append(url)
        return 1

    settings = {"mac": "52:54:00:aa:bb:cc", "platform": "pcbios"}
    fetchers = Fetchers(patiently(script), patiently(file), patiently(time.sleep), said.append)
    return Ipxe(fetchers=fetchers, settings=settings), fetched, said


def test_the_protocols_scripts_end_in_a_boot() -> None:
    ipxe, fetched, _ = _ipxe(
        {
            BASE: "chain --replace /ipxe/${netX/mac:hexhyp} || exit",
            "http://boot/ipxe/52-54-00-aa-bb-cc": (
                "kernel http://boot/k initrd=ramdisk levier.token=T a=${net0/mac}\ninitrd --name ramdisk http://boot/r\nboot"
            ),
        }
    )
    assert run_blocking(ipxe.chain(BASE)) is Verdict.BOOT
    assert ipxe.command_line == "initrd=ramdisk levier.token=T a=52:54:00:aa:bb:cc"
    assert fetched == [BASE, "http://boot/ipxe/52-54-00-aa-bb-cc", "http://boot/k", "http://boot/r"]


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("", Verdict.EXIT),
        ("reboot", Verdict.REBOOT),
        ("chain missing || poweroff", Verdict.POWER_OFF),
        ("chain missing || goto failed\nreboot\n:failed\npoweroff", Verdict.POWER_OFF),
        ("iseq ${platform} efi && reboot || poweroff", Verdict.POWER_OFF),
        ("iseq ${platform} pcbios && reboot || poweroff", Verdict.REBOOT),
        ("isset ${nothing} || exit\nreboot", Verdict.EXIT),
        ("set x ${mac}\niseq ${x} 52:54:00:aa:bb:cc && poweroff ||", Verdict.POWER_OFF),
        ("chain child\nreboot", Verdict.REBOOT),
        ("chain --replace child\nreboot", Verdict.EXIT),
        ("dhcp\n# a comment\necho hello\nreboot", Verdict.REBOOT),
    ],
)
def test_control_flow(script: str, verdict: Verdict) -> None:
    ipxe, _, _ = _ipxe({BASE: script, "http://boot/child": "exit"})
    assert run_blocking(ipxe.chain(BASE)) is verdict


@pytest.mark.parametrize(
    "script", ["chain missing", "exit 1", "boot", "unheard-of", "goto nowhere", ":a\ngoto a", "chain"]
)
def test_what_fails_says_so(script: str) -> None:
    ipxe, _, _ = _ipxe({BASE: script})
    with pytest.raises(ScriptFailed) as failed:
        run_blocking(ipxe.chain(BASE))
    assert str(failed.value)
