"""Hosts that contract tests run against, each started once per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig.container import Container, running
from tests.rig.sshd import LoopbackSshd


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    server = LoopbackSshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def debian_12(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running("bookworm", tmp_path_factory.mktemp("debian-12")) as container:
        yield container


@pytest.fixture(scope="session")
def debian_13(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running("trixie", tmp_path_factory.mktemp("debian-13")) as container:
        yield container
