"""The rendered configuration of hosts: shown with secrets masked, kept with its revision with secrets as references."""

from __future__ import annotations

from typing import Any

from levier.domain.component_placement import component_named, components_of, missing_needs
from levier.domain.errors import NotFound
from levier.domain.problems import closest
from levier.domain.site import Node, Site
from levier.services.components.installed import installed_components
from levier.services.components.rendering import RenderedComponent, render_component
from levier.services.components.secret_references import masked
from levier.services.components.view import view_site
from levier.services.sites import Sites
from levier.store.addresses import AddressStore
from levier.store.configurations import ConfigurationStore


class Configurations:
    """What each component's files are on each host."""

    def __init__(self, sites: Sites, addresses: AddressStore, store: ConfigurationStore) -> None:
        self._sites = sites
        self._addresses = addresses
        self._store = store

    def rendered(self, host: str, *, revision: int | None = None) -> tuple[int, tuple[RenderedComponent, ...]]:
        """The revision's number (the newest without one) and every component of `host`, secrets as references.

        It is kept with the revision from now on. Safe to repeat: what a revision says of a host changes only with the
        addresses of its hosts and with the components themselves. Raises NotFound, InvalidRequest as rendering does.
        """
        number, site = self._sites.current() if revision is None else (revision, self._sites.site(revision))
        node = _host(site, host)
        components = installed_components()
        allocated = {(each.node, each.network): each.address for each in self._addresses.list()}
        view = view_site(site, components, allocated)
        found = tuple(
            render_component(components, each.name, site=site, view=view, host=host)
            for each in components_of(site, node, components)
        )
        self._store.keep(number, host, [each.model_dump(mode="json") for each in found])
        return number, found

    def kept(self, host: str, revision: int) -> tuple[RenderedComponent, ...]:
        """What was kept of `host` with the revision. Raises NotFound when it was never rendered."""
        return tuple(RenderedComponent.model_validate(each) for each in self._store.get(revision, host))

    def show(self, host: str, component: str | None = None, *, revision: int | None = None) -> dict[str, Any]:
        """The files of a host, or of one component there, as a person may see them: *** for every secret."""
        number, found = self.rendered(host, revision=revision)
        if component is not None:
            wanted = tuple(each for each in found if each.component == component)
            if not wanted:
                raise _not_there(component, host, [each.component for each in found])
            found = wanted
        return {"host": host, "revision": number, "components": [_shown(each) for each in found]}

    def components(self) -> list[dict[str, Any]]:
        """Every component there is."""
        return [
            {
                "name": each.name,
                "roles": [role.value for role in each.roles],
                "needs": list(each.needs),
                "summary": each.summary,
                "settings": {
                    name: setting.model_dump(mode="json", exclude_none=True) for name, setting in each.settings.items()
                },
            }
            for each in installed_components().values()
        ]

    def component(self, name: str) -> dict[str, Any]:
        """One component with all it says. Raises NotFound with the closest name."""
        return component_named(installed_components(), name).model_dump(mode="json", exclude_none=True)

    def unmet(self) -> list[str]:
        """One sentence for each need that no host of the newest revision meets."""
        return list(missing_needs(self._sites.current()[1], installed_components()))


def _host(site: Site, name: str) -> Node:
    node = site.node(name)
    if not node.roles:
        raise NotFound(
            f"{name} has no role, so no component runs on it", hint="give it roles: in the site file, then apply it"
        )
    return node


def _not_there(component: str, host: str, there: list[str]) -> NotFound:
    component_named(installed_components(), component)
    match = closest(component, there)
    hint = f"did you mean {match!r}?" if match else f"{host} runs {', '.join(there)}"
    return NotFound(f"{component} does not run on {host}", hint=hint)


def _shown(rendered: RenderedComponent) -> dict[str, Any]:
    return {
        "component": rendered.component,
        "settings": {
            name: {"value": value, "from": rendered.origins[name]} for name, value in rendered.settings.items()
        },
        "units": list(rendered.units),
        "files": [
            {
                "path": each.path,
                "mode": f"{each.mode:04o}",
                "owner": each.owner,
                "group": each.group,
                "content": masked(each.content),
            }
            for each in rendered.files
        ],
    }
