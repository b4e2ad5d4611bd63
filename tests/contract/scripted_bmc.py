"""A BMC that misbehaves on request: pyghmi's stock IPMI server with a chassis behind it, as a process of its own.

`python scripted_bmc.py DIRECTORY PORT [DIRECTORY PORT ...]`. It logs each request it
receives to DIRECTORY/log (`time netfn command data`, in hexadecimal) and reads DIRECTORY/script.json before each
answer, so that a test can change its manners at any time. As shipped, this server answers every login with cipher
suite 3 without saying so: clients that offer suite 17 must cope.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import time
import uuid
from pathlib import Path
from typing import Any

from ipmi_records import fru_storage, full_sensor_record
from pyghmi.ipmi.bmc import Bmc
from pyghmi.ipmi.private import session

USER, PASSWORD = "admin", "secret"
FRU = {"manufacturer": "Scripted", "product": "S-1", "serial": "SCR0001", "asset_tag": "T-77"}
SENSORS = (
    full_sensor_record(record_id=1, number=7, name="CPU Temp", sensor_type=1, unit=1, m=1),
    full_sensor_record(record_id=2, number=8, name="FAN1", sensor_type=4, unit=18, m=100),
    full_sensor_record(record_id=3, number=9, name="Absent", sensor_type=1, unit=1, m=1),
)
READINGS = {7: [42, 0xC0, 0xC0, 0], 8: [60, 0xC0, 0xC0 | 0x02, 0]}

DEFAULTS: dict[str, Any] = {
    "codes": {},  # "netfn command [data prefix]" in hexadecimal → completion code
    "codes_once": {},  # the same, each used up by one request
    "power_lag_s": 0.0,  # how long a power command takes
    "ignore_power": False,  # acknowledges power commands and does nothing
    "ignore_soft_off": False,
    "keeps": "all",  # boot flags kept: all, device (forgets persistence), none
    "largest_read": 255,  # FRU and SDR bytes in one reply
    "too_much_code": 0xCA,
    "short_replies": False,
}


class ScriptedBmc(Bmc):
    def __init__(self, directory: Path, port: int) -> None:
        self._directory = directory
        self._log = (directory / "log").open("a", buffering=1)
        self._power = (False, False, 0.0)  # before, after, from when
        self._boot = [0, 0, 0, 0, 0]
        self._used: set[str] = set()
        super().__init__({USER: PASSWORD}, port=port, bmcuuid=uuid.UUID(int=7), address="::ffff:127.0.0.1")

    def handle_raw_request(self, request: dict[str, Any], client: Any) -> None:
        script = DEFAULTS | json.loads((self._directory / "script.json").read_text())
        netfn, command, data = request["netfn"], request["command"], bytes(request["data"])
        self._log.write(f"{time.time():.6f} {netfn:02x} {command:02x} {data.hex()}\n")
        key = f"{netfn:02x} {command:02x} {data.hex()}"
        code = next((c for prefix, c in script["codes"].items() if key.startswith(prefix)), None)
        for prefix, once in script["codes_once"].items():
            if key.startswith(prefix) and prefix not in self._used:
                self._used.add(prefix)
                code = once
        if code is None:
            code, answer = self._answer(netfn, command, data, script)
        else:
            answer = b""
        client.send_ipmi_response(code=code, data=list(answer[:1] if script["short_replies"] else answer))

    def _answer(self, netfn: int, command: int, data: bytes, script: dict[str, Any]) -> tuple[int, bytes]:
        handlers = {
            (0, 1): lambda: (0, bytes([self._powered(), 0, 0])),
            (0, 2): lambda: self._control(data[0], script),
            (0, 4): lambda: (0, b""),
            (0, 8): lambda: self._set_boot(data, script),
            (0, 9): lambda: (0, bytes([1, 5, *self._boot])) if data[0] == 5 else (0x80, b""),
            (6, 1): lambda: (0, bytes([0x20, 1, 1, 0, 2, 0b1011, 1, 0, 0, 1, 0])),
            (0xA, 0x10): lambda: (0, len(fru_storage(**FRU)).to_bytes(2, "little") + b"\0"),
            (0xA, 0x11): lambda: self._chunk(fru_storage(**FRU), data[1] + data[2] * 256, data[3], script, sized=True),
            (0xA, 0x22): lambda: (0, b"\x01\x00"),
            (0xA, 0x23): lambda: self._sdr(data, script),
            (4, 0x2D): lambda: (0, bytes(READINGS[data[0]])) if data[0] in READINGS else (0xCB, b""),
        }
        return handlers[netfn, command]() if (netfn, command) in handlers else (0xC1, b"")

    def _powered(self) -> bool:
        before, after, since = self._power
        return after if time.monotonic() >= since else before

    def _control(self, action: int, script: dict[str, Any]) -> tuple[int, bytes]:
        wanted = {0: False, 1: True, 5: False}.get(action)
        ignored = script["ignore_power"] or (action == 5 and script["ignore_soft_off"])
        if wanted is not None and not ignored:
            self._power = (self._powered(), wanted, time.monotonic() + script["power_lag_s"])
        return 0, b""

    def _set_boot(self, data: bytes, script: dict[str, Any]) -> tuple[int, bytes]:
        if data[0] == 5 and script["keeps"] != "none":
            self._boot = list(data[1:6])
            if script["keeps"] == "device":
                self._boot[0] &= ~0x40
        return 0, b""

    def _sdr(self, data: bytes, script: dict[str, Any]) -> tuple[int, bytes]:
        index = max(0, data[2] + data[3] * 256 - 1)
        following = index + 2 if index + 1 < len(SENSORS) else 0xFFFF
        code, piece = self._chunk(SENSORS[index], data[4], data[5], script, sized=False)
        return code, following.to_bytes(2, "little") + piece if code == 0 else b""

    @staticmethod
    def _chunk(whole: bytes, offset: int, size: int, script: dict[str, Any], *, sized: bool) -> tuple[int, bytes]:
        if size > script["largest_read"]:
            return script["too_much_code"], b""
        piece = whole[offset : offset + size]
        return 0, (bytes([len(piece)]) if sized else b"") + piece


def _send(server_socket: socket.socket, packet: bytes, client: Any) -> None:
    # pyghmi switches the socket to blocking here while its reader thread relies on it not to be: with several sockets
    # in one process the reader then hangs on one of them (measured: after a few hundred sessions).
    with contextlib.suppress(BlockingIOError):
        server_socket.sendto(packet, client)


if __name__ == "__main__":
    session._io_sendto = _send
    served = [ScriptedBmc(Path(where), int(port)) for where, port in zip(sys.argv[1::2], sys.argv[2::2], strict=True)]
    served[0].listen()
