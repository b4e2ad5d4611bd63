"""The agent protocol (docs/agent-protocol.md) as the machines of the `nspawn` and `stub` chassis speak it.

Coroutines that leave all waiting to `Wire` and `RootDisk`: see `levier.lab.guest.ipxe`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from levier.domain.errors import LevierError, Rejected, Unreachable
from levier.lab.guest.http import HttpRefused

_DISK_NAME = "vda"
_RETRY_S = 2.0
_REFUSED_S = 30.0
_FORBIDDEN = 403

Progress = Callable[[int], Coroutine[Any, Any, None]]
"""Told the compressed bytes taken in so far, about every second."""


@dataclass(frozen=True, slots=True)
class Received:
    """What came over the wire. `failure` is why it could not be put on the disk; empty when it could."""

    size_bytes: int
    sha256: str
    failure: str = ""


class Wire(Protocol):
    """HTTP and time. Raises HttpRefused and Unreachable."""

    async def fetch(self, url: str, *, bearer: str = "", body: bytes | None = None) -> bytes:
        """The whole body of the answer; POST when there is a body."""
        ...

    async def sleep(self, seconds: float) -> None:
        """That many seconds have passed."""
        ...


class RootDisk(Protocol):
    """The disk that the image goes to. Raises LevierError and OSError."""

    @property
    def size_bytes(self) -> int:
        """The disk's size."""
        ...

    async def write(self, url: str, *, bearer: str, progress: Progress) -> Received:
        """The disk holds the image that `url` serves as one zstd stream, and zeros elsewhere."""
        ...

    async def verify(self) -> None:
        """The partition table that was written is there and names a root file system."""
        ...

    async def unpack_seed(self, archive: bytes) -> None:
        """The root file system holds the files of the tar archive."""
        ...


def parse_pairs(text: str) -> dict[str, str]:
    """The `key=value` lines of a body."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def render_pairs(pairs: Mapping[str, object]) -> bytes:
    """A body of `key=value` lines; line breaks in values become spaces."""
    return "".join(f"{key}={' '.join(str(value).splitlines())}\n" for key, value in pairs.items()).encode()


@dataclass(slots=True)
class Agent:
    """One run of the ramdisk's work. `inventory` is the body of the claim."""

    boot_url: str
    token: str
    inventory: Mapping[str, object]
    wire: Wire
    disk: RootDisk
    say: Callable[[str], None]
    _session: str = ""

    async def run(self) -> str:
        """Does what the boot service asks for until that is `reboot` or `power-off`, which is returned."""
        if not await self._claim():
            return "power-off"
        while True:
            try:
                answer = parse_pairs(await self._post("next", b""))
            except HttpRefused as error:
                if error.status != _FORBIDDEN:
                    raise
                self.say(f"agent: the session ended: {error}")
                return "power-off"
            action = answer.get("action", "")
            if action == "reboot":
                await self._report("reboot", "started")
                return action
            if action == "power-off":
                return action
            if action == "write":
                await self._write(answer)
            elif action == "refuse":
                self.say(f"agent: refused: {answer.get('reason', '')}")
                await self.wire.sleep(_REFUSED_S)
            elif action != "wait":
                raise Rejected(f"the boot service asks for {action!r}, which this agent does not know")

    async def _claim(self) -> bool:
        try:
            answer = await self._request("claim", render_pairs(self.inventory), bearer=self.token)
        except HttpRefused as error:
            self.say(f"agent: claim refused: {error}")
            return False
        self._session = parse_pairs(answer)["session"]
        return True

    async def _post(self, what: str, body: bytes) -> str:
        return await self._request(what, body, bearer=self._session)

    async def _request(self, what: str, body: bytes, *, bearer: str) -> str:
        """The answer's body. A boot service that cannot be reached, or answer, is asked again while power lasts."""
        while True:
            try:
                answer = await self.wire.fetch(f"{self.boot_url}/agent/{what}", bearer=bearer, body=body)
                return answer.decode()
            except (HttpRefused, Unreachable, OSError) as error:
                if isinstance(error, HttpRefused) and error.status < 500:
                    raise
                self.say(f"agent: {error}; trying again")
                await self.wire.sleep(_RETRY_S)

    async def _report(self, stage: str, state: str, **more: object) -> None:
        self.say(f"agent: {stage} {state} {' '.join(str(value) for value in more.values())}")
        await self._post("report", render_pairs({"stage": stage, "state": state, **more}))

    async def _write(self, order: dict[str, str]) -> None:
        stages = (("write", self._stream), ("verify", self._verify), ("seed", self._seed))
        for stage, work in stages:
            await self._report(stage, "started")
            try:
                await work(order)
            except (LevierError, OSError, KeyError, ValueError) as error:
                cause = str(error) if isinstance(error, LevierError) else f"{type(error).__name__}: {error}"
                await self._report(stage, "failed", detail=cause)
                return
            await self._report(stage, "done")

    async def _stream(self, order: dict[str, str]) -> None:
        if order["disk"] != _DISK_NAME:
            raise Rejected(f"this machine has no disk {order['disk']}")
        size_bytes = self.disk.size_bytes
        if int(order["raw_size_bytes"]) > size_bytes:
            raise Rejected(
                f"disk {_DISK_NAME} holds {size_bytes} bytes, the image needs {order['raw_size_bytes']} bytes"
            )
        received = await self.disk.write(order["image_url"], bearer=self._session, progress=self._progress)
        if received.size_bytes != int(order["image_size_bytes"]):
            raise Rejected(f"the image has {received.size_bytes} bytes instead of {order['image_size_bytes']}")
        if received.sha256 != order["image_sha256"]:
            raise Rejected(f"image checksum mismatch: expected {order['image_sha256']}, received {received.sha256}")
        if received.failure:  # a stream that was damaged on its way fails here, too: what came tells the cause first
            raise Rejected(received.failure)

    async def _progress(self, compressed_bytes: int) -> None:
        await self._report("write", "progress", bytes_done=compressed_bytes)

    async def _verify(self, order: dict[str, str]) -> None:
        await self.disk.verify()

    async def _seed(self, order: dict[str, str]) -> None:
        await self.disk.unpack_seed(await self.wire.fetch(order["seed_url"], bearer=self._session))
