"""The cloud as the steps of an installation see it: components for a host, with everything they need at hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from drivers.bundle import Bundle
from drivers.host import Directory, File, HostConfiguration, User
from drivers.openstack.catalog import CatalogItem
from drivers.openstack.connection import CloudLogin
from levier.domain.component import Component, FileFormat
from levier.domain.component_placement import component_named
from levier.domain.errors import InvalidRequest, NotFound
from levier.domain.install_plan import COMPUTE, IDENTITY, PROXY
from levier.domain.operation import Fence
from levier.domain.site import Node, Site
from levier.saga.store_patience import StorePatience, patient
from levier.services.components import (
    ComponentSet,
    RenderedComponent,
    SiteView,
    components_of,
    render_component,
    resolved,
    view_site,
)
from levier.services.components import (
    ensure_secrets as make_secrets,
)
from levier.services.components.catalog import catalog_entries
from levier.services.components.site_ca import (
    authority_certificate,
    check_server_certificate,
    ensure_authority,
    is_signed_by,
    server_certificate,
    still_fits,
)
from levier.services.releases import Releases
from levier.services.secrets import SecretStore
from levier.store.addresses import AddressStore
from levier.store.configurations import ConfigurationStore

ADMIN = "admin"
ADMIN_SECRET = "keystone.admin"  # noqa: S105 - the name of it
ACCESS = "levier-operators"
"""The application credential of the operators."""
ACCESS_SECRET = "cloud.access"  # noqa: S105 - the name of it
"""The secret that holds its `id` and `secret`."""
DRAINED = "Levier takes the host out of service"
"""The reason that components' `drain` give for disabling their service: what Levier disabled it may enable."""
CERTIFICATE = "haproxy.certificate"
"""The secret that holds key and certificate of the public endpoints; an operator may bring it."""
UNPACKING = ("python3", "tar", "zstd")
"""What a host needs to be given a release."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """What is to be on the hosts of a site. Thread-safe; every method is safe to repeat."""

    components: ComponentSet
    releases: Releases
    secrets: SecretStore
    addresses: AddressStore
    configurations: ConfigurationStore
    boot_port: int
    """TCP port of the boot service, which serves bundles too."""

    def patient(self, patience: StorePatience) -> Cloud:
        """This cloud, waiting for the database where it is away: for steps."""
        return replace(
            self,
            addresses=patient(self.addresses, patience),
            configurations=patient(self.configurations, patience),
        )

    # --- what is to be ----------------------------------------------------------------------------------------------

    def view(self, site: Site) -> SiteView:
        """The site as templates see it. Raises NotFound when a host has no address yet."""
        known = {(a.node, a.network): a.address for a in self.addresses.list()}
        return view_site(site, self.components, known)

    def rendered(self, site: Site, host: str, component: str) -> RenderedComponent:
        """The component on the host, secrets as references. Raises InvalidRequest as rendering does."""
        return render_component(self.components, component, site=site, view=self.view(site), host=host)

    def keep_rendered(self, rendered: RenderedComponent, *, revision: int, fence: Fence) -> None:
        """What was written to the component's host is kept with the revision; `config show --revision` shows it."""
        content = rendered.model_dump(mode="json")
        self.configurations.keep(revision, rendered.host, rendered.component, content, fence=fence)

    def configuration(self, rendered: RenderedComponent, view: SiteView) -> HostConfiguration:
        """Users, directories and files of the component on the host, with its secrets, which exist afterwards."""
        component = component_named(self.components, rendered.component)
        self.ensure_secrets(component, public_hosts=(view.public_host,))
        return HostConfiguration(
            users=tuple(User(name=u.name, groups=u.groups, home=u.home, shell=u.shell) for u in component.users),
            directories=tuple(
                Directory(path=d.path, owner=d.owner, group=d.group, mode=int(d.mode, 8)) for d in component.directories
            ),
            files=tuple(
                File(
                    path=f.path,
                    content=self.clear(f.content, rendered_for=f.format).encode(),
                    owner=f.owner,
                    group=f.group,
                    mode=f.mode,
                )
                for f in rendered.files
            ),
        )

    def clear(self, text: str, *, rendered_for: FileFormat = FileFormat.TEXT) -> str:
        """The text with values in the place of references to secrets. Raises NotFound."""
        return resolved(text, self.secrets, file_format=rendered_for)

    def ensure_secrets(self, component: Component, *, public_hosts: Sequence[str] = ()) -> None:
        """Every secret that the component's files refer to exists, whoever brings it into the world.

        `public_hosts` are the names and addresses that a certificate is made out to.
        """
        owners = [each for each in self.components.values() if {s.name for s in each.secrets} & component.known_secrets]
        made = make_secrets(owners, self.secrets, public_hosts=public_hosts)
        if CERTIFICATE in made and public_hosts:
            self._keep_certificate_fit(public_hosts)

    def _keep_certificate_fit(self, hosts: Sequence[str]) -> None:
        """The certificate is for `hosts` and not about to end: Levier's own is made anew, an operator's is refused."""
        pem, authority = self.secrets.get(CERTIFICATE)["pem"], ensure_authority(self.secrets)
        if not is_signed_by(pem, authority["certificate"]):
            check_server_certificate(pem, hosts[0])
        elif not still_fits(pem, hosts):
            self.secrets.set(CERTIFICATE, {"pem": server_certificate(authority, hosts)})

    def bundle(self, site: Site, node: Node) -> Bundle:
        """The bundle of the site's release for the node's system. Raises NotFound with the command that builds it."""
        if not site.release:
            raise InvalidRequest("the site names no release", hint="add `release: 2026.2` to the site file")
        return self.releases.bundle(site.release, site.os_of(node))

    def first_host(self, site: Site, component: str) -> str:
        """The first host that runs the component. Raises NotFound when none does."""
        hosts = (node.name for node in site.nodes if component in self.on(site, node))
        host = next(hosts, None)
        if host is None:
            raise NotFound(f"no host runs {component}", hint="give a node a role that includes it")
        return host

    def packages(self, site: Site, node: Node) -> tuple[str, ...]:
        """Packages of the distribution that the host needs, for its components and to be given the release. By name."""
        own = components_of(site, node, self.components)
        wanted = {name for each in own for name in each.software.packages_on(site.os_of(node))}
        return tuple(sorted(wanted | set(self.bundle(site, node).manifest.os_packages) | set(UNPACKING)))

    def bundle_url(self, site: Site, node: Node) -> str:
        """Where the node's host fetches its bundle: Levier's boot service on the network the node boots from."""
        network = site.network(str(site.boot_nic(node).network))
        sha256 = self.bundle(site, node).manifest.sha256
        return f"http://{network.server_address}:{self.boot_port}/bundles/{sha256}"

    # --- its own APIs -----------------------------------------------------------------------------------------------

    def login(self, site: Site) -> CloudLogin:
        """As the cloud's administrator, by the internal endpoint. Raises NotFound before keystone was configured."""
        identity = component_named(self.components, IDENTITY)
        (entry,) = catalog_entries(identity, self.view(site))
        password = self.secrets.get(ADMIN_SECRET)["password"]
        return CloudLogin(entry.internal, ADMIN, password, region=site.openstack.region)

    def public_identity_url(self, site: Site) -> str:
        """Where keystone is offered to the cloud's users. Raises NotFound when a host has no address yet."""
        (entry,) = catalog_entries(component_named(self.components, IDENTITY), self.view(site))
        return entry.public

    def public_ca(self, site: Site) -> str | None:
        """What clients of the public endpoints must trust, in PEM; None: what they trust anyhow is enough."""
        if not self.view(site).runs(PROXY):
            return None
        authority = authority_certificate(self.secrets)
        return authority if is_signed_by(self.secrets.get(CERTIFICATE)["pem"], authority) else None

    def check_certificate(self, site: Site) -> None:
        """The certificate of the public endpoints, if there is one yet, is of use for them. Raises InvalidRequest."""
        if CERTIFICATE in self.secrets.names():
            host = site.openstack.public_host
            check_server_certificate(self.secrets.get(CERTIFICATE)["pem"], None if host is None else str(host))

    def catalog(self, site: Site, component: Component) -> tuple[CatalogItem, ...]:
        """What keystone is to know of the component. Raises NotFound before the secrets were made."""
        return tuple(
            CatalogItem(
                type=entry.type,
                name=entry.name,
                description=entry.description,
                region=site.openstack.region,
                urls={"public": entry.public, "internal": entry.internal, "admin": entry.admin},
                user=entry.user,
                password=self.secrets.get(entry.secret)["password"] if entry.user and entry.secret else "",
                roles=entry.roles,
            )
            for entry in catalog_entries(component, self.view(site))
        )

    def zones(self, site: Site) -> dict[str, list[str]]:
        """Zone → names of its compute hosts, as nova lists them."""
        found: dict[str, list[str]] = {zone.name: [] for zone in site.zones}
        for node in site.nodes:
            if COMPUTE in self.on(site, node):
                found[site.zone_of(node)].append(node.name)
        return {zone: hosts for zone, hosts in found.items() if hosts}

    def on(self, site: Site, node: Node) -> frozenset[str]:
        """Names of the node's components."""
        return frozenset(each.name for each in components_of(site, node, self.components))
