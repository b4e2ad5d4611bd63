"""Exactly one disk is chosen, or every disk is named with why it is not."""

# ruff: noqa: E501 - tables and messages are read best as they are

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain.errors import Rejected
from levier.domain.hints import GIB, RootDeviceHints, choose_root_disk
from levier.domain.inventory import Disk

SDA = Disk(name="sda", size_bytes=480 * 10**9, model="SAMSUNG  MZ7LH480", serial="S45PNA0M", wwn="naa.5002538e40a1b2c3")
SDB = Disk(
    name="sdb", size_bytes=4000 * 10**9, model="ST4000NM", serial="ZC18ABCD", wwn="0x5000C500a1b2c3d4", rotational=True
)
NVME = Disk(name="nvme0n1", size_bytes=960 * 10**9, model="Micron 7450", wwn="eui.000000000000000100a075213cd8f1e2")
ALL = (SDA, SDB, NVME)


@pytest.mark.parametrize(
    ("hints", "chosen"),
    [
        ({"serial": "s45pna0m"}, SDA),
        ({"model": "samsung mz7lh480"}, SDA),
        ({"wwn": "0x5002538E40A1B2C3"}, SDA),
        ({"wwn": "wwn-0x5000c500a1b2c3d4"}, SDB),
        ({"wwn": "000000000000000100a075213cd8f1e2"}, NVME),
        ({"name": "/dev/nvme0n1"}, NVME),
        ({"rotational": True}, SDB),
        ({"rotational": False, "max_size_gib": 500}, SDA),
        ({"rotational": False, "min_size_gib": 500}, NVME),
        ({"min_size_gib": 1000}, SDB),
    ],
)
def test_each_hint_finds_its_disk_however_vendors_write_it(hints: dict[str, object], chosen: Disk) -> None:
    assert choose_root_disk(ALL, RootDeviceHints.model_validate(hints), 10 * GIB) == chosen


def test_without_hints_the_only_disk_is_meant() -> None:
    assert choose_root_disk([SDA], None, GIB) == SDA


def test_no_match_names_every_disk_and_why() -> None:
    with pytest.raises(Rejected) as caught:
        choose_root_disk(ALL, RootDeviceHints(serial="NOPE", rotational=False), GIB)
    assert caught.value.message.splitlines() == [
        "no disk matches the root device hints (serial=NOPE, rotational=False):",
        "  nvme0n1 (894.07 GiB, solid state, model Micron 7450, wwn eui.000000000000000100a075213cd8f1e2): it reports no serial",
        "  sda (447.03 GiB, solid state, model SAMSUNG  MZ7LH480, serial S45PNA0M, wwn naa.5002538e40a1b2c3): its serial is S45PNA0M",
        "  sdb (3725.29 GiB, rotational, model ST4000NM, serial ZC18ABCD, wwn 0x5000C500a1b2c3d4): its serial is ZC18ABCD; it is rotational",
    ]  # fmt: skip
    assert "site file" in caught.value.hint


@pytest.mark.parametrize("hints", [None, RootDeviceHints(rotational=False), RootDeviceHints(min_size_gib=10)])
def test_several_matches_are_refused_even_if_only_one_is_large_enough(hints: RootDeviceHints | None) -> None:
    with pytest.raises(Rejected, match=r"[23] disks match .*, exactly one must"):
        choose_root_disk(ALL, hints, 900 * 10**9)


def test_a_matching_disk_that_is_too_small_is_refused_and_no_other_taken() -> None:
    with pytest.raises(Rejected) as caught:
        choose_root_disk(ALL, RootDeviceHints(serial="S45PNA0M"), 500 * GIB)
    assert "disk sda (447.03 GiB" in caught.value.message
    assert "is too small: the image needs 500.00 GiB" in caught.value.message


def test_a_machine_without_disks_is_refused() -> None:
    with pytest.raises(Rejected, match="the machine reports no disk"):
        choose_root_disk([], RootDeviceHints(name="sda"), GIB)


@pytest.mark.parametrize("wwn", ["0x", "naa.", "wwn-0x"])
def test_an_empty_wwn_matches_no_disk_without_one(wwn: str) -> None:
    with pytest.raises(Rejected, match="it reports no wwn"):
        choose_root_disk([Disk(name="vda", size_bytes=GIB)], RootDeviceHints(wwn=wwn), 1)


_TEXTS = st.sampled_from(["", "A1", "a1", "B2", "0xA1", "naa.a1"])
_SIZES = st.integers(0, 12).map(lambda n: n * GIB // 2)
_DISKS = st.lists(
    st.builds(Disk, name=st.sampled_from(["sda", "sdb", "sdc", "vda"]), size_bytes=_SIZES, model=_TEXTS, serial=_TEXTS, wwn=_TEXTS, rotational=st.booleans()),
    max_size=4,
    unique_by=lambda disk: disk.name,
)  # fmt: skip
_GIVEN = _TEXTS.filter(bool)
_HINTS = st.none() | st.builds(
    RootDeviceHints,
    serial=st.none() | _GIVEN,
    model=st.none() | _GIVEN,
    wwn=st.none() | _GIVEN,
    name=st.none() | st.sampled_from(["sda", "vda"]),
    min_size_gib=st.none() | st.integers(1, 6),
    max_size_gib=st.none() | st.integers(1, 6),
    rotational=st.none() | st.booleans(),
)


def _outcome(disks: list[Disk], hints: RootDeviceHints | None, required: int) -> Disk | str:
    try:
        return choose_root_disk(disks, hints, required)
    except Rejected as error:
        return error.message


@given(disks=_DISKS, hints=_HINTS, required=_SIZES, seed=st.integers(0, 99))
def test_the_order_in_which_disks_are_reported_never_matters(
    disks: list[Disk], hints: RootDeviceHints | None, required: int, seed: int
) -> None:
    shuffled = list(disks)
    random.Random(seed).shuffle(shuffled)
    assert _outcome(disks, hints, required) == _outcome(shuffled, hints, required)


@given(disks=_DISKS, hints=_HINTS, required=_SIZES)
def test_a_chosen_disk_is_there_large_enough_and_the_only_one_that_could_be(
    disks: list[Disk], hints: RootDeviceHints | None, required: int
) -> None:
    outcome = _outcome(disks, hints, required)
    if isinstance(outcome, str):
        # Every disk that could be meant is in the message.
        assert not disks or any(disk.name in outcome for disk in disks)
        return
    assert outcome in disks
    assert outcome.size_bytes >= required
    others = [disk for disk in disks if disk != outcome]
    assert all(isinstance(_outcome([other], hints, 0), str) for other in others)


@given(disks=_DISKS, hints=_HINTS, required=_SIZES)
def test_asking_for_a_smaller_image_never_changes_which_disk_is_chosen(
    disks: list[Disk], hints: RootDeviceHints | None, required: int
) -> None:
    outcome = _outcome(disks, hints, required)
    if isinstance(outcome, Disk):
        assert _outcome(disks, hints, required // 2) == outcome
