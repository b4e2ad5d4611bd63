"""Hosts and BMCs that contract tests run against; hosts are started once per session."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from bmc_peers import IpmiSim, Scripted, ipmi_sim, scripted_many

from tests.rig.container import Container, running
from tests.rig.sshd import LoopbackSshd
from tests.rig.stub_host import StubLogin, stub_host


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoopbackSshd]:
    server = LoopbackSshd(tmp_path_factory.mktemp("sshd"))
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def stub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubLogin]:
    with stub_host(tmp_path_factory.mktemp("stub")) as login:
        yield login


@pytest.fixture(scope="session")
def debian_12(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running("bookworm", tmp_path_factory.mktemp("debian-12")) as container:
        yield container


@pytest.fixture(scope="session")
def debian_13(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running("trixie", tmp_path_factory.mktemp("debian-13")) as container:
        yield container


@pytest.fixture(scope="module")
def scripted_fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Scripted]]:
    """Fresh misbehaving BMCs, one after the other: starting them one by one takes longer."""
    with scripted_many(tmp_path_factory.mktemp("peers") / "fleet", 80) as peers:
        yield iter(peers)


@pytest.fixture
def bmc(scripted_fleet: Iterator[Scripted]) -> Scripted:
    return next(scripted_fleet)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[IpmiSim]:
    with ipmi_sim(tmp_path / "sim") as peer:
        yield peer
