"""The configuration of hosts: what would be written now, and what was written with a revision; secrets are masked."""

from __future__ import annotations

from typing import Any

from levier.domain.component_placement import component_named, components_of
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

_Found = tuple[int, tuple[RenderedComponent, ...], tuple[RenderedComponent, ...]]
"""A revision's number, the components to show, those that were written with it."""


class Configurations:
    """What each component's files are on each host."""

    def __init__(self, sites: Sites, addresses: AddressStore, store: ConfigurationStore) -> None:
        self._sites = sites
        self._addresses = addresses
        self._store = store

    def rendered(self, host: str, site: Site) -> tuple[RenderedComponent, ...]:
        """Every component of `host` as an installation would write it now, secrets as references.

        It changes with the addresses of the site's hosts and with the components themselves. Raises NotFound,
        InvalidRequest as rendering does.
        """
        node = _host(site, host)
        components = installed_components()
        allocated = {(each.node, each.network): each.address for each in self._addresses.list()}
        view = view_site(site, components, allocated)
        return tuple(
            render_component(components, each.name, site=site, view=view, host=host)
            for each in components_of(site, node, components)
        )

    def written(self, host: str, revision: int) -> tuple[RenderedComponent, ...]:
        """The components that installations with the revision wrote to `host`, as they wrote them; maybe none."""
        return tuple(RenderedComponent.model_validate(each) for each in self._store.list(revision, host))

    def show(self, host: str, component: str | None = None, *, revision: int | None = None) -> dict[str, Any]:
        """The files of a host, or of one component there, as a person may see them: *** for every secret.

        Of a `revision`: what was written with it, whatever components and addresses are by now; where nothing was, and
        without one, what would be written now. Of each component `written` says whether it was, exactly so. Stores
        nothing. Raises NotFound, InvalidRequest as rendering does.
        """
        number, found, written = self._of_newest(host) if revision is None else self._of_revision(host, revision)
        if component is not None:
            there = [each.component for each in found]
            found = tuple(each for each in found if each.component == component)
            if not found:
                raise _not_there(component, host, there, only_written=revision is not None and bool(written))
        components = [_shown(each, written=each in written) for each in found]
        return {"host": host, "revision": number, "components": components}

    def _of_newest(self, host: str) -> _Found:
        number, site = self._sites.current()
        return number, self.rendered(host, site), self.written(host, number)

    def _of_revision(self, host: str, revision: int) -> _Found:
        written = self.written(host, revision)
        return revision, written or self.rendered(host, self._sites.site(revision)), written

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


def _host(site: Site, name: str) -> Node:
    node = site.node(name)
    if not node.roles:
        raise NotFound(
            f"{name} has no role, so no component runs on it", hint="give it roles: in the site file, then apply it"
        )
    return node


def _not_there(component: str, host: str, there: list[str], *, only_written: bool) -> NotFound:
    component_named(installed_components(), component)
    match = closest(component, there)
    if only_written:
        hint = f"did you mean {match!r}?" if match else f"these were: {', '.join(there)}"
        return NotFound(f"{component} was not written to {host} with this revision", hint=hint)
    hint = f"did you mean {match!r}?" if match else f"{host} runs {', '.join(there)}"
    return NotFound(f"{component} does not run on {host}", hint=hint)


def _shown(rendered: RenderedComponent, *, written: bool) -> dict[str, Any]:
    return {
        "component": rendered.component,
        "written": written,
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
