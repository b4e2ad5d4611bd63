"""Reading identities out of FRU storage, also out of storage that vendors wrote badly."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.bmc.fru import parse_identity
from levier.domain import errors
from levier.domain.bmc import FruInventory


def text(value: str) -> bytes:
    raw = value.encode("latin-1")
    return bytes([0xC0 | len(raw)]) + raw


def six_bit(value: str) -> bytes:
    bits = sum((ord(letter) - 0x20) << 6 * n for n, letter in enumerate(value))
    raw = bits.to_bytes((len(value) * 6 + 7) // 8, "little")
    return bytes([0x80 | len(raw)]) + raw


def area(head: bytes, *fields: bytes) -> bytes:
    body = bytes([1, 0]) + head + b"".join(fields) + b"\xc1"
    body += bytes(-(len(body) + 1) % 8)
    body = bytes([1, (len(body) + 1) // 8]) + body[2:]
    return body + bytes([-sum(body) % 256])


def storage(*, chassis: bytes = b"", board: bytes = b"", product: bytes = b"") -> bytes:
    offsets, position = [], 1
    for part in (chassis, board, product):
        offsets.append(position if part else 0)
        position += len(part) // 8
    header = bytes([1, 0, *offsets, 0, 0])
    return header + bytes([-sum(header) % 256]) + chassis + board + product


def product_area(*fields: bytes) -> bytes:
    return area(bytes([25]), *fields)


# Letters that survive the trimming of vendors' padding, and are longer than the one that reads as an end mark.
NAMES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=2, max_size=40)


@given(NAMES, NAMES, NAMES, NAMES)
def test_product_area(manufacturer: str, product: str, serial: str, tag: str) -> None:
    fields = (text(manufacturer), text(product), text("PN"), text("V1"), text(serial), text(tag), text(""))
    found = parse_identity(storage(product=product_area(*fields)), source="x")
    assert found == FruInventory(manufacturer=manufacturer, product=product, serial=serial, asset_tag=tag)


@given(st.binary(max_size=300))
def test_any_bytes_are_an_identity_or_malformed(data: bytes) -> None:
    with suppress(errors.MalformedReply):
        assert isinstance(parse_identity(b"\x01" + data, source="x"), FruInventory)


def test_text_in_another_language_is_utf_16_but_serials_are_not() -> None:
    german = "Müller".encode("utf-16-le")
    fields = (bytes([0xC0 | len(german)]) + german, text(""), text(""), text(""), text("SN-1234"), text(""))
    found = parse_identity(storage(product=area(bytes([9]), *fields)), source="x")
    assert (found.manufacturer, found.serial) == ("Müller", "SN-1234")


def test_board_and_chassis_stand_in() -> None:
    board = area(bytes([25, 0, 0, 0]), text("BoardMaker"), text("BoardName"), text("BS1"), text("BP1"), text("f"))
    chassis = area(bytes([0x17]), text("CP1"), text("CS1"))
    assert parse_identity(storage(chassis=chassis, board=board), source="x") == FruInventory(
        manufacturer="BoardMaker", product="BoardName", serial="CS1"
    )
    product = product_area(text("Maker"), text(""), text(""), text(""), text("  \x00"), text("tag"))
    assert parse_identity(storage(chassis=chassis, board=board, product=product), source="x") == FruInventory(
        manufacturer="Maker", product="BoardName", serial="CS1", asset_tag="tag"
    )


@pytest.mark.parametrize("serial", ["ABCDE", "SN-12", "12345678", "A1"])
def test_six_bit_text_of_any_length(serial: str) -> None:
    """pyghmi 1.6.19 fails with IndexError unless the length is a multiple of three bytes."""
    fields = (text("M1"), text("P1"), text(""), text(""), six_bit(serial), text("t1"))
    assert parse_identity(storage(product=product_area(*fields)), source="x").serial == serial


def test_other_encodings() -> None:
    bcd = bytes([0x40 | 3, 0x12, 0x3B, 0x45])
    binary = bytes([0x00 | 2, 0xAB, 0xCD])
    found = parse_identity(
        storage(product=product_area(text("M\xfcller"), text("P1"), text(""), text(""), bcd, binary)), source="x"
    )
    assert found == FruInventory(manufacturer="Müller", product="P1", serial="123-45", asset_tag="abcd")


@pytest.mark.parametrize("blank", [b"", bytes(64), b"\xff" * 64])
def test_unwritten_storage_is_empty(blank: bytes) -> None:
    assert parse_identity(blank, source="x") == FruInventory()


def test_storage_that_ends_inside_an_area() -> None:
    whole = storage(product=product_area(text("Maker"), text("Name"), text(""), text(""), text("S1234"), text("t")))
    with pytest.raises(errors.MalformedReply, match=r"BMC here.*ends inside"):
        parse_identity(whole[:16], source="BMC here")


def test_wrong_checksum_is_told_and_read_on(caplog: pytest.LogCaptureFixture) -> None:
    good = storage(product=product_area(text("Maker"), text("Name"), text(""), text(""), text("S1"), text("t1")))
    bad = good[:7] + bytes([good[7] ^ 1]) + good[8:]
    assert parse_identity(bad, source="BMC 9") == parse_identity(good, source="BMC 9")
    assert "BMC 9: the checksum" in caplog.text
