"""A host of the `stub` chassis: its disk written through the agent protocol with a real seed, then booted."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drivers.bmc import BMC_DRIVERS
from drivers.images.seed import SeedSpec, render_seed
from drivers.ssh import KeyPair, generate_host_key
from levier.domain.bmc import BootDevice, BootOverride
from levier.domain.ssh import SshTarget
from levier.lab.rack import Rack
from levier.lab.spec import ChassisKind, Ports, RackSpec, plan_rack
from tests.lab.provisioning import BootService, wait_until
from tests.rig.sshd import free_port

RAW_SIZE = 10 << 20


def free_ports() -> Ports:
    """Ports that no other rack on this computer's loopback has at this moment: tests may run beside each other."""
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as probe:
        probe.bind(("127.0.77.11", 0))
        return Ports(bmc=probe.getsockname()[1], ssh=free_port(), boot=free_port())


@dataclass(frozen=True)
class StubLogin:
    """The keys and the address of one host."""

    name: str
    mac: str
    address: str
    port: int
    host_key: KeyPair = field(default_factory=lambda: generate_host_key("host"))
    login: KeyPair = field(default_factory=lambda: generate_host_key("login"))

    def seed(self, *, instance: str = "i-1") -> bytes:
        """The seed as Levier renders it."""
        return render_seed(
            SeedSpec(
                instance_id=instance,
                hostname=self.name,
                mac=self.mac,
                address=self.address,
                prefix_length=16,
                host_private_key=self.host_key.private_openssh,
                host_public_key=self.host_key.public_line,
                authorized_keys=(self.login.public_line,),
            )
        )

    def target(self, *, login: KeyPair | None = None, host_key: KeyPair | None = None) -> SshTarget:
        """How the host is reached, with parts replaced where a test wants them wrong."""
        return SshTarget(
            host=self.address,
            port=self.port,
            username="root",
            host_keys=((host_key or self.host_key).public_line,),
            private_key=(login or self.login).private_openssh,
        )


def login_of(spec: RackSpec, index: int = 0) -> StubLogin:
    """Keys and address for one node of a rack."""
    node = spec.nodes[index]
    return StubLogin(node.name, node.mac, f"127.78.16.{index + 1}", spec.ssh_port)


def order_host(service: BootService, rack: Rack, login: StubLogin, **changed: Any) -> None:
    """The boot service tells the next machine to write the rack's image with the host's seed, and to reboot."""
    service.agent_script()
    service.entry_for(login.mac)
    image = rack.layout.image.read_bytes()
    service.order_image(image, **{"raw_size_bytes": RAW_SIZE, "seed": login.seed(), **changed})
    service.orders.append("action=reboot\n")


def answers(login: StubLogin) -> bool:
    """Whether something listens where the host should."""
    with suppress(OSError), socket.create_connection((login.address, login.port), timeout=2) as connection:
        return connection.recv(4) == b"SSH-"
    return False


def boot_from_network(rack: Rack, node: str) -> None:
    """The machine is on and boots from the network once."""
    quick = {"min_interval_s": 0.0, "poll_interval_s": 0.1, "timeout_s": 30.0}
    bmc = BMC_DRIVERS["ipmi"](rack.bmc(node), rack.credentials(), options=quick)
    bmc.set_boot_override(BootOverride(device=BootDevice.PXE))
    bmc.power_on()
    bmc.close()


@contextmanager
def stub_host(directory: Path) -> Iterator[StubLogin]:
    """A running stub host in a rack of its own."""
    spec = plan_rack(name="contract", chassis=ChassisKind.STUB, nodes=1, disk_gib=1, ports=free_ports())
    rack = Rack(name=spec.name, directory=directory)
    rack.up(spec)
    service = BootService("", host=str(spec.server), port=spec.boot_port)
    try:
        login = login_of(spec)
        order_host(service, rack, login)
        boot_from_network(rack, login.name)
        wait_until(lambda: answers(login), what="the host's SSH server")
        yield login
    finally:
        service.stop()
        rack.down()
