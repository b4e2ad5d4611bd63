"""Programs of a few bytes for a BIOS machine: as a network boot program or as a boot sector, both at 0000:7C00."""

from __future__ import annotations

import struct

_ORIGIN = 0x7C00
SECTORS_A_CALL = 127

# mov dx, 0x604; mov ax, 0x2000; out dx, ax: SLP_EN in q35's ACPI PM1a control register, where SeaBIOS puts it.
# Then hlt; jmp to the hlt.
POWER_OFF = bytes.fromhex("ba0406 b80020 ef f4 ebfd")

# Enables the power button in PM1a's event block (0x600), waits until it was pressed, powers off.
POWER_OFF_AT_BUTTON = bytes.fromhex("ba0206 b80001 ef ba0006 ed f6c401 74fa") + POWER_OFF


def boot_sector(program: bytes) -> bytes:
    """The program as the first sector of a disk."""
    return program.ljust(510, b"\0") + b"\x55\xaa"


def writes_then_powers_off(*, calls: int) -> bytes:
    """Writes `calls` × 127 sectors from sector 2,048 on by INT 13h AH=43h, then powers off."""
    head = bytes.fromhex("31c0 8ed8") + b"\xb9" + struct.pack("<H", calls)  # xor ax, ax; mov ds, ax; mov cx, calls
    loop_size = 27
    packet_at = _ORIGIN + len(head) + loop_size + len(POWER_OFF)
    low, high = struct.pack("<H", packet_at + 8), struct.pack("<H", packet_at + 10)
    body = (
        b"\x51"  # push cx
        + b"\xbe"
        + struct.pack("<H", packet_at)  # mov si, packet
        + bytes.fromhex("b280 b80043 cd13")  # mov dl, 0x80; mov ax, 0x4300; int 0x13
        + b"\x83\x06"
        + low
        + bytes([SECTORS_A_CALL])  # add word [sector], 127
        + b"\x83\x16"
        + high
        + b"\x00"  # adc word [sector + 2], 0
        + b"\x59"  # pop cx
    )
    body += b"\xe2" + struct.pack("<b", -(len(body) + 2))  # loop
    body = body.ljust(loop_size, b"\x90")
    packet = struct.pack("<BBHHHQ", 16, 0, SECTORS_A_CALL, 0x0000, 0x1000, 2048)
    return head + body + POWER_OFF + packet
