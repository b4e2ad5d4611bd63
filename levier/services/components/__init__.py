"""Components: read from their folders, placed on hosts, configured and rendered."""

from levier.domain.component import Component
from levier.domain.component_placement import component_named, components_of, dependency_order, missing_needs
from levier.domain.component_settings import effective_settings, settings_findings
from levier.services.components.commands import shell_script
from levier.services.components.loading import ComponentSet, load_components
from levier.services.components.rendering import RenderedComponent, RenderedFile, render_component
from levier.services.components.secret_references import ensure_secrets, masked, references, resolved
from levier.services.components.view import HostView, SiteView, view_site

__all__ = [
    "Component",
    "ComponentSet",
    "HostView",
    "RenderedComponent",
    "RenderedFile",
    "SiteView",
    "component_named",
    "components_of",
    "dependency_order",
    "effective_settings",
    "ensure_secrets",
    "load_components",
    "masked",
    "missing_needs",
    "references",
    "render_component",
    "resolved",
    "settings_findings",
    "shell_script",
    "view_site",
]
