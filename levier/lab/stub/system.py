"""The operating system of a `stub` machine while it runs: what its disk holds, booted without a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from levier.domain.errors import LevierError, NotFound
from levier.lab.chassis import EndReason
from levier.lab.layout import Layout
from levier.lab.stub.disk import extract_root
from levier.lab.stub.hooks import Hooks
from levier.lab.stub.image import INIT, PROGRAMS
from levier.lab.stub.namespaces import Namespaces, Place, UserNamespace, make_namespaces
from levier.lab.stub.seed import address_of, apply_seed
from levier.lab.stub.ssh import HostSsh
from levier.lab.stub.sysctls import lay_out

_VERBS = {"reboot": EndReason.REBOOT, "poweroff": EndReason.POWER_OFF, "halt": EndReason.POWER_OFF}
_VOLATILE = ("dev", "run", "tmp")


class StubSystem:
    """One boot of one host. `ended` is told once when the host restarts or switches itself off."""

    def __init__(
        self,
        *,
        layout: Layout,
        node: str,
        user_namespace: UserNamespace,
        sysctls: Mapping[str, bytes],
        ssh_port: int,
        hooks: Hooks,
        say: Callable[[str], None],
        ended: Callable[[EndReason], None],
    ) -> None:
        self._layout = layout
        self._node = node
        self._user_namespace = user_namespace
        self._sysctls = sysctls
        self._ssh_port = ssh_port
        self._hooks = hooks
        self._say = say
        self._ended = ended
        self._root = layout.system(node)
        self._namespaces: Namespaces | None = None
        self._ssh: HostSsh | None = None
        self._power_requests: int | None = None
        self.address: str | None = None

    async def load(self) -> None:
        """The disk's root file system is there to be booted. Raises NotFound for a disk without one, Rejected."""
        if not self._root.exists():
            await extract_root(self._layout.disk(self._node), self._root)
        if not (self._root / INIT).is_file():
            raise NotFound(f"the root file system has no /{INIT}")

    async def start(self) -> None:
        """The host is up: it answers on its address with its own host key. Raises LevierError, OSError."""
        self._freshen()
        self._set_clock()
        try:
            apply_seed(self._root)
        except LevierError as error:
            self._say(f"cloud-init: {error}")
        console = self._layout.console(self._node)
        self._namespaces = await make_namespaces(self._user_namespace, self._place(), console=console)
        self._listen_for_power()
        self.address = address_of(self._root)
        if self.address is None:
            self._say("network: no address is configured")
            return
        ssh = HostSsh(self._root, self._namespaces, hooks=self._hooks, say=self._say)
        try:
            await ssh.listen(self.address, self._ssh_port)
        except LevierError as error:
            self._say(str(error))  # the host runs on, and nobody can enter it
            return
        self._ssh = ssh

    async def stop(self) -> None:
        """Nothing of the host runs. Safe to repeat."""
        self.address = None
        if self._power_requests is not None:
            asyncio.get_running_loop().remove_reader(self._power_requests)
            os.close(self._power_requests)
            self._power_requests = None
        if self._ssh is not None:
            await self._ssh.stop()
            self._ssh = None
        if self._namespaces is not None:
            self._namespaces.close()
            self._namespaces = None

    @property
    def is_up(self) -> bool:
        """Whether the host has booted and was not stopped."""
        return self._namespaces is not None

    def shut_down(self) -> None:
        """The power button was pressed."""
        self._ended(EndReason.POWER_OFF)

    def _place(self) -> Place:
        directory = self._layout.node(self._node)
        return Place(root=self._root, sysctls=directory / "sysctl", fstab=directory / "fstab")

    def _freshen(self) -> None:
        """What does not outlive a boot is as new: run, tmp, devices, kernel settings, boot id."""
        for name in _VOLATILE:
            mode = (self._root / name).stat().st_mode if (self._root / name).exists() else 0o755
            shutil.rmtree(self._root / name, ignore_errors=True)
            (self._root / name).mkdir()
            (self._root / name).chmod(mode & 0o7777)
        # What systemd's own programs ask where there is no systemd (systemd.io/CONTAINER_INTERFACE): the clock, for
        # one, is kept by this computer.
        (self._root / "run/systemd").mkdir()
        (self._root / "run/systemd/container").write_text("levier-stub\n", encoding="ascii")
        machine_id = self._root / "etc/machine-id"
        if not machine_id.exists() or not machine_id.read_text(encoding="ascii").strip():
            machine_id.write_text(f"{uuid.uuid4().hex}\n", encoding="ascii")
        lay_out(self._sysctls, self._place().sysctls, boot_id=str(uuid.uuid4()))

    def _set_clock(self) -> None:
        """date(1) tells the machine's time: all that a stub host has of a clock of its own."""
        date = self._root / PROGRAMS / "date"
        date.unlink(missing_ok=True)
        if ahead_s := self._hooks.clock_offset_s():
            date.write_text(f'#!/bin/sh\nexec /usr/bin/date -d "{ahead_s:.0f} seconds" "$@"\n', encoding="ascii")
            date.chmod(0o755)

    def _listen_for_power(self) -> None:
        """`reboot` and `poweroff` on the host write to the FIFO that init(8) listened on before systemd."""
        fifo = self._root / "run/initctl"
        os.mkfifo(fifo, 0o600)
        # For writing, too: otherwise every writer that closes it would wake us with an end of file.
        self._power_requests = os.open(fifo, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        asyncio.get_running_loop().add_reader(self._power_requests, self._power_requested)

    def _power_requested(self) -> None:
        if self._power_requests is None:
            return
        with contextlib.suppress(BlockingIOError):
            for word in os.read(self._power_requests, 4096).decode(errors="replace").split():
                if (reason := _VERBS.get(word)) is not None:
                    self._say(f"init: {word}")
                    self._ended(reason)


def forget_system(directory: Path) -> None:
    """No unpacked root file system is left: the disk's content is another now. Safe to repeat."""
    shutil.rmtree(directory, ignore_errors=True)
