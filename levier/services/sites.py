"""The site file and its configuration revisions."""

from __future__ import annotations

import json
from typing import Any

from levier.domain.errors import Conflict, NotFound
from levier.domain.node import NodeState
from levier.domain.node_record import SiteNode
from levier.domain.revision import Revision
from levier.domain.site import Site
from levier.domain.site_diff import diff_sites
from levier.services.sitefile import load_site, unmet_needs
from levier.store.nodes import NodeStore
from levier.store.revisions import RevisionStore

_SERVING = frozenset({NodeState.IN_SERVICE, NodeState.DRAINING, NodeState.REINSTALLING})
"""Hosts that are the cloud's, or will be again."""
_SHOWN = 5


class Sites:
    """Checks, stores and compares site files."""

    def __init__(self, revisions: RevisionStore, nodes: NodeStore) -> None:
        self._revisions = revisions
        self._nodes = nodes

    def validate(self, text: str, filename: str) -> dict[str, Any]:
        """What the site file describes, and what an installation would lack (`unmet`); nothing is stored.

        Raises SiteFileInvalid with every problem.
        """
        document = load_site(text, filename)
        site = document.site
        return {"valid": True, "site": site.site.name, "nodes": len(site.nodes), "unmet": list(unmet_needs(site))}

    def apply(self, text: str, filename: str, *, who: str) -> dict[str, Any]:
        """The newest revision has this content and its nodes are enrolled. Safe to repeat.

        Raises SiteFileInvalid; Conflict for another name of the site while hosts are in service.
        """
        document = load_site(text, filename)
        site = document.site
        self._refuse_another_name(site)
        number, created = self._revisions.apply(json.loads(document.canonical), text, who)
        self._nodes.upsert_from_site(SiteNode(node.name, site.zone_of(node), node.rack) for node in site.nodes)
        return {"revision": number, "created": created, "nodes": len(site.nodes), "digest": document.digest}

    def _refuse_another_name(self, site: Site) -> None:
        """What identifies compute hosts to nova follows from the site's name (docs/decisions/0171): they keep it."""
        latest = self._revisions.latest()
        name = latest.content["site"]["name"] if latest is not None else site.site.name
        if name == site.site.name:
            return
        # A host that an operation works on may be in service, by the old name, when that has ended.
        bound = [node.name for node in self._nodes.list() if node.state in _SERVING or node.operation]
        if bound:
            some = ", ".join(bound[:_SHOWN]) + (f" and {len(bound) - _SHOWN} more" if len(bound) > _SHOWN else "")
            raise Conflict(
                f"the site is named {name!r} and cannot be named {site.site.name!r} now: nova knows compute hosts by "
                f"identities that follow from that name, and there are hosts in service or in an operation: {some}",
                hint=f"keep site: {{name: {name}}}; to rename it, take its hosts out of service first "
                "(roll the installation back)",
            )

    def current(self) -> tuple[int, Site]:
        """The newest revision. Raises NotFound before the first."""
        latest = self._revisions.latest()
        if latest is None:
            raise NotFound("no site file was applied yet", hint="levier site apply FILE")
        return latest.number, Site.model_validate(latest.content)

    def current_or_none(self) -> tuple[int, Site] | None:
        """The newest revision; None before the first."""
        latest = self._revisions.latest()
        return None if latest is None else (latest.number, Site.model_validate(latest.content))

    def site(self, number: int) -> Site:
        """The site of revision `number`. Raises NotFound."""
        return Site.model_validate(self._revisions.get(number).content)

    def revisions(self) -> list[dict[str, Any]]:
        """All revisions, oldest first, without their content."""
        return [_summary(revision) for revision in reversed(self._revisions.list())]

    def revision(self, number: int) -> dict[str, Any]:
        """One revision with its content and source. Raises NotFound."""
        revision = self._revisions.get(number)
        return _summary(revision) | {"content": dict(revision.content), "source": revision.source}

    def diff(self, a: int, b: int) -> list[dict[str, Any]]:
        """What changed from revision `a` to `b`, keyed by names. Raises NotFound."""
        changes = diff_sites(self.site(a), self.site(b))
        return [{"kind": str(c.kind), "path": c.path, "before": c.before, "after": c.after} for c in changes]


def _summary(revision: Revision) -> dict[str, Any]:
    return {
        "revision": revision.number,
        "applied": revision.at.isoformat(),
        "who": revision.who,
        "nodes": len(revision.content.get("nodes", [])),
        "digest": revision.digest,
    }
