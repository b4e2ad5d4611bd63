"""The boot service under test: its real application under a real uvicorn, on its own connection to the database."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import uvicorn
from sqlalchemy import Engine

from levier.api.boot_app import create_boot_app
from levier.api.boot_server import boot_server
from levier.bootstrap import AGENT_PATIENCE_S
from levier.domain.netboot import ImageRef
from levier.domain.operation import Fence, Operation, PlannedStep
from levier.saga.store_patience import StorePatience, patient
from levier.services.boot import BootEntries, NoDhcp
from levier.services.boot_agents import BootAgents, BootServices, DeployFiles
from levier.services.seal import KEY_BYTES, AesGcmSeal
from levier.store.base import open_engine
from levier.store.boot import BootStore
from levier.store.boot_sessions import BootSessionStore
from levier.store.step_log import SqlStepLog

OPERATIONS = ("another", *(f"op{number}" for number in range(10)))
HOLD_S = 60.0
SEAL = AesGcmSeal(bytes(range(KEY_BYTES)))


@dataclass(frozen=True)
class BootFiles:
    """Files as a boot service has them."""

    kernel: Path
    ramdisk: Path
    images: Path

    @classmethod
    def made_in(cls, directory: Path) -> BootFiles:
        """A kernel, a ramdisk of random bytes, and an empty image cache."""
        files = cls(kernel=directory / "vmlinuz", ramdisk=directory / "ramdisk.img", images=directory / "images")
        files.kernel.write_bytes(os.urandom(3 * 1024 * 1024 + 17))
        files.ramdisk.write_bytes(os.urandom(1024 * 1024))
        files.images.mkdir()
        return files

    def deploy_files(self) -> DeployFiles | None:
        """The deploy ramdisk as the shelf finds it."""
        return DeployFiles(kernel=self.kernel, ramdisk=self.ramdisk)

    def add_image(self, content: bytes) -> ImageRef:
        """`content` is in the cache, under its digest."""
        digest = hashlib.sha256(content).hexdigest()
        (self.images / digest).write_bytes(content)
        return ImageRef(name="test", sha256=digest, size_bytes=len(content), raw_size_bytes=4 * len(content))

    def image_path(self, sha256: str) -> Path | None:
        """Where the image lies."""
        path = self.images / sha256
        return path if path.is_file() else None


def services(
    database_url: str, files: BootFiles, *, hold_s: float = HOLD_S, patience: StorePatience | None = None
) -> BootServices:
    """What the application needs, with connections of its own."""
    engine = open_engine(database_url)
    sessions = patient(BootSessionStore(engine), patience or StorePatience(limit_s=AGENT_PATIENCE_S))
    agents = BootAgents(sessions, BootStore(engine), seal=SEAL)
    return BootServices(
        agents=agents,
        deploy_files=files.deploy_files,
        image_path=files.image_path,
        bundle_path=files.image_path,
        hold_s=hold_s,
    )


def entries(database_url: str) -> BootEntries:
    """Boot entries as the runner has them: connections of its own, no word with the boot service but the database."""
    engine = open_engine(database_url)
    for operation in OPERATIONS:
        order(engine, operation)
    return BootEntries(BootStore(engine), seal=SEAL, dhcp=NoDhcp())


def order(engine: Engine, operation: str) -> None:
    """There is an operation of that id, on which nobody works yet."""
    plan = (PlannedStep("publish-boot-entry", "a1-01"),)
    SqlStepLog(engine).create(
        Operation(
            id=operation, kind="test", targets=("a1-01",), plan=plan, created=datetime.now(UTC), code_version="1.0.0"
        )
    )


def worker_of(operation: str) -> Fence:
    """The right to act on an operation that `order` made."""
    return Fence(operation=operation, generation=0, worker="test")


class BootServer:
    """uvicorn in a thread, on a free loopback port."""

    def __init__(self, served: BootServices) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self._server: uvicorn.Server = boot_server(create_boot_app(served), host="127.0.0.1", port=port)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})

    def __enter__(self) -> BootServer:
        # The socket listens already: a request made before uvicorn is up waits in its backlog.
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=15)
        self._socket.close()
        assert not self._thread.is_alive(), "the boot service did not end"
