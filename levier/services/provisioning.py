"""What steps need beyond one driver call: addresses, keys, boot entries, seeds, images, the baseline."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from drivers.baseline import BaselineSpec, HostEntry, SysctlSetting
from drivers.bmc import BMC_DRIVERS
from drivers.images.catalog import BuiltImage, list_images
from drivers.images.seed import SeedSpec, render_seed
from drivers.ramdisk import list_ramdisks
from drivers.ssh import SshOptions, generate_host_key, open_host
from levier.domain.bmc import Bmc, Credentials
from levier.domain.errors import InvalidRequest, NotFound, Rejected
from levier.domain.netboot import BootPurpose, ImageRef
from levier.domain.operation import Fence
from levier.domain.permit import Permit
from levier.domain.site import Network, Node, Site
from levier.domain.ssh import RemoteHost, SshTarget
from levier.saga.store_patience import StorePatience, patient
from levier.services.boot import BootEntries
from levier.services.cloud import Cloud
from levier.services.patience import Patience
from levier.services.secrets import SecretStore
from levier.store.addresses import AddressStore
from levier.store.nodes import NodeStore

INTERNAL = "internal-"
"""Prefix of secrets that Levier made for itself; the API shows and changes none of them."""
LOGIN_KEY = f"{INTERNAL}ssh-login"
SSH_OPTIONS = SshOptions(connect_timeout_s=2.0)
"""A host that boots drops packets silently; TCP's own repeats come after 1, 3 and 7 s, a new attempt comes sooner."""


@dataclass(frozen=True, slots=True)
class Provisioning:
    """The services around one node's steps. Thread-safe; every method is safe to repeat unless it says otherwise."""

    nodes: NodeStore
    addresses: AddressStore
    boot_entries: BootEntries
    secrets: SecretStore
    image_cache: Path
    patience: Patience = field(default_factory=Patience)
    cloud: Cloud | None = None
    """Components and releases; None where only bare hosts are dealt with."""

    def patient(self, patience: StorePatience) -> Provisioning:
        """These services, waiting for the database where it is away: for steps."""
        return replace(
            self,
            nodes=patient(self.nodes, patience),
            addresses=patient(self.addresses, patience),
            boot_entries=patient(self.boot_entries, patience),
            cloud=self.cloud and self.cloud.patient(patience),
        )

    # --- drivers ----------------------------------------------------------------------------------------------------

    def credentials(self, node: Node) -> Credentials:
        """The BMC's user name and password. Raises NotFound, or InvalidRequest when the secret lacks one of them."""
        values = self.secrets.get(node.bmc.credential)
        missing = {"username", "password"} - set(values)
        if missing:
            raise InvalidRequest(
                f"secret {node.bmc.credential} of node {node.name} has no {' and no '.join(sorted(missing))}",
                hint=f"levier secret set {node.bmc.credential} --username NAME",
            )
        return Credentials(values["username"], values["password"])

    def open_bmc(self, node: Node, permit: Permit) -> Bmc:
        """A driver for the node's BMC that asks for `permit` before each packet; the BMC is not touched yet."""
        options: dict[str, object] = {}
        if node.bmc.min_interval_s is not None:
            options["min_interval_s"] = node.bmc.min_interval_s
            # A BMC that bears quick commands is also looked at often while its power state changes.
            options["poll_interval_s"] = min(2.0, max(0.2, node.bmc.min_interval_s))
            options["settle_after_reset_s"] = min(15.0, 3 * node.bmc.min_interval_s)
        if node.bmc.timeout_s is not None:
            options["timeout_s"] = node.bmc.timeout_s
        connect = BMC_DRIVERS[node.bmc.driver.value]
        return connect(node.bmc.endpoint, self.credentials(node), options=options, permit=permit)

    def open_host(self, target: SshTarget, permit: Permit) -> RemoteHost:
        """A driver for the host that asks for `permit` before each command; it is connected to when first used."""
        return open_host(target, SSH_OPTIONS, permit=permit)

    # --- addresses --------------------------------------------------------------------------------------------------

    def allocate_address(self, site: Site, node: Node, *, operation: str, fence: Fence) -> str:
        """The node's address on its provisioning network: fixed by the site file, the one it has, or a free one."""
        nic = site.boot_nic(node)
        network = site.network(str(nic.network))
        candidates = [str(nic.address)] if nic.address is not None else _free_candidates(site, network)
        return self.addresses.allocate(network.name, candidates, node=node.name, operation=operation, fence=fence)

    def release_address(self, site: Site, node: Node, *, operation: str, fence: Fence) -> None:
        """The node holds no address that `operation` allocated."""
        network = str(site.boot_nic(node).network)
        self.addresses.release(network, node=node.name, operation=operation, fence=fence)

    def address_of(self, site: Site, node: str) -> str:
        """The address at which Levier reaches the node's host. Raises NotFound when it has none."""
        nic = site.boot_nic(site.node(node))
        known = {(a.network, a.node): a.address for a in self.addresses.list()}
        address = str(nic.address) if nic.address is not None else known.get((str(nic.network), node))
        if address is None:
            raise NotFound(f"{node} has no address yet", hint=f"bring it up first: levier expand {node}")
        return address

    def forget(self, node: str, *, by: Fence) -> None:
        """Levier's own books hold nothing that the operation left of the node. The machine is not touched."""
        self.boot_entries.withdraw(node=node, by=by)
        for network in {a.network for a in self.addresses.list() if (a.node, a.operation) == (node, by.operation)}:
            self.addresses.release(network, node=node, operation=by.operation, fence=by)
        self.forget_host_key(node, operation=by.operation)

    # --- images -----------------------------------------------------------------------------------------------------

    def built_image(self, site: Site, node: Node) -> BuiltImage:
        """The newest build of the node's image. Raises NotFound; Rejected when the site file pins another content."""
        pinned = site.image(node.image).sha256
        built = [i for i in list_images(self.image_cache) if i.name == node.image]
        if not built:
            raise NotFound(
                f"image {node.image} of node {node.name} is not built", hint=f"levier image build {node.image}"
            )
        chosen = next((i for i in built if pinned in (None, i.record.sha256)), None)
        if chosen is None:
            raise Rejected(
                f"image {node.image} has SHA-256 {built[0].record.sha256}, the site file pins {pinned}",
                hint=f"build or restore the pinned image, or correct images[{node.image}].sha256",
            )
        return chosen

    def image_for(self, site: Site, node: Node) -> ImageRef:
        """The node's image as the boot service serves it. Raises like `built_image`."""
        return self.built_image(site, node).ref()

    # --- keys and seed ----------------------------------------------------------------------------------------------

    def login_key(self) -> tuple[str, str]:
        """Levier's own SSH key (private PEM text, public line), made when it is first needed.

        The first nodes of a site need it at the same time: one key is made, for all of them.
        """
        values = self.secrets.ensure(LOGIN_KEY, _new_login_key)
        return values["private"], values["public"]

    def ensure_host_key(self, node: str, *, operation: str) -> str:
        """The host's key pair of this operation exists; its public line."""
        name = _host_key_name(node)
        if name in self.secrets.names():
            kept = self.secrets.get(name)
            if kept["operation"] == operation:
                return kept["public"]
        pair = generate_host_key(node)
        values = {"operation": operation, "private": pair.private_openssh, "public": pair.public_line}
        self.secrets.set(name, values)
        return pair.public_line

    def host_key(self, node: str) -> str | None:
        """The public line of the host's key, for an operator's known_hosts; None when no operation made one."""
        name = _host_key_name(node)
        return self.secrets.get(name)["public"] if name in self.secrets.names() else None

    def forget_host_key(self, node: str, *, operation: str) -> bool:
        """No key pair of this operation is kept for the host. True if there was one."""
        name = _host_key_name(node)
        if name not in self.secrets.names() or self.secrets.get(name)["operation"] != operation:
            return False
        self.secrets.delete(name)
        return True

    def ssh_target(self, site: Site, node: str, address: str) -> SshTarget:
        """How to reach the host, with the only host key that is accepted. Raises NotFound before the key was made."""
        private, _ = self.login_key()
        public = self.secrets.get(_host_key_name(node))["public"]
        return SshTarget(
            host=address, port=site.site.ssh_port, username="root", host_keys=(public,), private_key=private
        )

    def seed_for(self, site: Site, node: Node, address: str, *, operation: str) -> bytes:
        """The NoCloud seed of the host, as a tar file. The same operation always gives the same seed."""
        network = site.network(str(site.boot_nic(node).network))
        keys = self.secrets.get(_host_key_name(node.name))
        return render_seed(
            SeedSpec(
                instance_id=f"{node.name}-{operation}",
                hostname=node.name,
                mac=site.boot_nic(node).mac,
                address=address,
                prefix_length=IPv4Network(network.cidr).prefixlen,
                gateway=str(network.gateway) if network.gateway is not None else "",
                dns=tuple(str(each) for each in network.dns),
                host_private_key=keys["private"],
                host_public_key=keys["public"],
                authorized_keys=(self.login_key()[1], *site.site.authorized_keys),
            )
        )

    # --- netboot ----------------------------------------------------------------------------------------------------

    def publish_boot_entry(self, site: Site, node: Node, *, fence: Fence, purpose: BootPurpose, address: str) -> None:
        """DHCP and the boot service answer the node, for this operation only. Raises NotFound without a ramdisk."""
        if not list_ramdisks(self.image_cache):
            raise NotFound(
                f"there is no deploy ramdisk to boot node {node.name} with",
                hint="import one: `levier ramdisk import FILE`; or run `levier up` as root, which builds it",
            )
        mac = site.boot_nic(node).mac
        self.boot_entries.publish(
            node=node.name, mac=mac, by=fence, purpose=purpose, address=address, hostname=node.name
        )

    # --- baseline ---------------------------------------------------------------------------------------------------

    def baseline_for(self, site: Site, node: Node, *, revision: int) -> BaselineSpec:
        """What the host's configuration is to be at `revision`."""
        settings = site.site
        return BaselineSpec(
            hostname=node.name,
            domain=settings.domain or "",
            hosts=tuple(self._host_entries(site)),
            timezone=settings.timezone,
            ntp_servers=settings.ntp_servers,
            operator_keys=settings.authorized_keys,
            sysctls=tuple(SysctlSetting(key=key, value=str(value)) for key, value in settings.sysctl.items()),
            revision=revision,
        )

    def _host_entries(self, site: Site) -> Iterator[HostEntry]:
        """Every node of the site whose address is known, by name."""
        known = {(a.network, a.node): a.address for a in self.addresses.list()}
        for node in site.nodes:
            nic = site.boot_nic(node)
            address = str(nic.address) if nic.address is not None else known.get((str(nic.network), node.name))
            if address is not None:
                yield HostEntry(address=address, names=tuple(dict.fromkeys((site.fqdn(node), node.name))))


def _new_login_key() -> dict[str, str]:
    pair = generate_host_key("levier")
    return {"private": pair.private_openssh, "public": pair.public_line}


def _host_key_name(node: str) -> str:
    return f"{INTERNAL}host-key-{node}"


def _free_candidates(site: Site, network: Network) -> Iterator[str]:
    if network.host_range is None:
        raise InvalidRequest(
            f"network {network.name} has no host_range to allocate from", hint="add host_range, or give NICs an address"
        )
    kept = site.fixed_addresses(network.name)
    for number in range(int(network.host_range.start), int(network.host_range.end) + 1):
        if IPv4Address(number) not in kept:
            yield str(IPv4Address(number))
