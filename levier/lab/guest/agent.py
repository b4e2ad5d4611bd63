"""The agent protocol (docs/agent-protocol.md) as a machine of the `nspawn` chassis speaks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from levier.domain.errors import DriverError, LevierError, Rejected, Unreachable
from levier.domain.inventory import Inventory
from levier.lab.guest import disk as disks
from levier.lab.guest.http import HttpRefused, open_url

_DISK_NAME = "vda"
_RETRY_S = 2.0
_REFUSED_S = 30.0
_FORBIDDEN = 403


def parse_pairs(text: str) -> dict[str, str]:
    """The `key=value` lines of a body."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def render_pairs(pairs: Mapping[str, object]) -> bytes:
    """A body of `key=value` lines; line breaks in values become spaces."""
    return "".join(f"{key}={' '.join(str(value).splitlines())}\n" for key, value in pairs.items()).encode()


def render_inventory(inventory: Inventory) -> bytes:
    """The body of a claim."""
    pairs: dict[str, object] = {
        name: getattr(inventory, name)
        for name in ("serial", "vendor", "product", "firmware", "cpu_model", "cpu_count", "memory_mib")
    }
    for disk in inventory.disks:
        for name in ("size_bytes", "model", "serial", "wwn"):
            pairs[f"disk.{disk.name}.{name}"] = getattr(disk, name)
        pairs[f"disk.{disk.name}.rotational"] = int(disk.rotational)
    for nic in inventory.nics:
        pairs[f"nic.{nic.name}.mac"] = nic.mac
        pairs[f"nic.{nic.name}.link"] = int(nic.link)
    return render_pairs({key: value for key, value in pairs.items() if value != ""})


@dataclass(slots=True)
class Agent:
    """One run of the ramdisk's work. `written` is told how many bytes the disk holds."""

    boot_url: str
    token: str
    inventory: Inventory
    disk: Path
    mount_point: Path
    say: Callable[[str], None]
    written: Callable[[int], None]
    _session: str = ""

    def run(self) -> str:
        """Does what the boot service asks for until that is `reboot` or `power-off`, which is returned."""
        if not self._claim():
            return "power-off"
        while True:
            try:
                answer = parse_pairs(self._post("next", b""))
            except HttpRefused as error:
                if error.status != _FORBIDDEN:
                    raise
                self.say(f"agent: the session ended: {error}")
                return "power-off"
            action = answer.get("action", "")
            if action == "reboot":
                self._report("reboot", "started")
                return action
            if action == "power-off":
                return action
            if action == "write":
                self._write(answer)
            elif action == "refuse":
                self.say(f"agent: refused: {answer.get('reason', '')}")
                time.sleep(_REFUSED_S)
            elif action != "wait":
                raise Rejected(f"the boot service asks for {action!r}, which this agent does not know")

    def _claim(self) -> bool:
        try:
            answer = self._request("claim", render_inventory(self.inventory), bearer=self.token)
        except HttpRefused as error:
            self.say(f"agent: claim refused: {error}")
            return False
        self._session = parse_pairs(answer)["session"]
        return True

    def _post(self, what: str, body: bytes) -> str:
        return self._request(what, body, bearer=self._session)

    def _request(self, what: str, body: bytes, *, bearer: str) -> str:
        """The answer's body. A boot service that cannot be reached is asked again for as long as power lasts."""
        while True:
            try:
                with open_url(f"{self.boot_url}/agent/{what}", bearer=bearer, body=body) as answer:
                    return answer.read().decode()
            except (Unreachable, OSError) as error:
                self.say(f"agent: {error}; trying again")
                time.sleep(_RETRY_S)

    def _report(self, stage: str, state: str, **more: object) -> None:
        self.say(f"agent: {stage} {state} {' '.join(str(value) for value in more.values())}")
        self._post("report", render_pairs({"stage": stage, "state": state, **more}))

    def _write(self, order: dict[str, str]) -> None:
        stages = (("write", self._stream), ("verify", self._verify), ("seed", self._seed))
        for stage, work in stages:
            self._report(stage, "started")
            try:
                work(order)
            except HttpRefused as error:
                self._report_failure(stage, error)
                return
            except (LevierError, OSError, KeyError, ValueError) as error:
                self._report_failure(stage, error)
                return
            self._report(stage, "done")

    def _report_failure(self, stage: str, error: Exception) -> None:
        cause = str(error) if isinstance(error, (DriverError, LevierError)) else f"{type(error).__name__}: {error}"
        self._report(stage, "failed", detail=cause)

    def _stream(self, order: dict[str, str]) -> None:
        if order["disk"] != _DISK_NAME:
            raise Rejected(f"this machine has no disk {order['disk']}")
        size_bytes = self.disk.stat().st_size
        if int(order["raw_size_bytes"]) > size_bytes:
            raise Rejected(
                f"disk {_DISK_NAME} holds {size_bytes} bytes, the image needs {order['raw_size_bytes']} bytes"
            )
        with open_url(order["image_url"], bearer=self._session) as answer:
            source = disks.Digesting(answer)
            disks.write_image(self.disk, source, progress=self._progress)
        self.written(disks.allocated_bytes(self.disk))
        self._check(order, source)

    @staticmethod
    def _check(order: dict[str, str], source: disks.Digesting) -> None:
        if source.size_bytes != int(order["image_size_bytes"]):
            raise Rejected(f"the image has {source.size_bytes} bytes instead of {order['image_size_bytes']}")
        if source.sha256 != order["image_sha256"]:
            raise Rejected(f"image checksum mismatch: expected {order['image_sha256']}, received {source.sha256}")

    def _progress(self, compressed_bytes: int) -> None:
        self.written(disks.allocated_bytes(self.disk))
        self._report("write", "progress", bytes_done=compressed_bytes)

    def _verify(self, order: dict[str, str]) -> None:
        """The partition table that was written is there and names a root file system."""
        disks.root_partition(self.disk)

    def _seed(self, order: dict[str, str]) -> None:
        with (
            open_url(order["seed_url"], bearer=self._session) as answer,
            disks.mounted_root(self.disk, self.mount_point) as root,
        ):
            disks.unpack_seed(answer, root)
