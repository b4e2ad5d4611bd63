"""The one text form of a site: same content, same text, same digest, whatever the file looked like."""

from __future__ import annotations

import hashlib
import json

from levier.domain.site import Site


def canonical(site: Site) -> str:
    """The site as compact JSON with sorted keys, entries ordered by name, values normalised and defaults written out.

    Comments, layout, anchors, order of entries, and leaving out a default make no difference. `from_canonical` reads
    it back to an equal site.
    """
    content = site.model_dump(mode="json", exclude_none=True)
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(site: Site) -> str:
    """Lower-case hexadecimal SHA-256 of the canonical form."""
    return hashlib.sha256(canonical(site).encode()).hexdigest()


def from_canonical(text: str) -> Site:
    """The site that `canonical` wrote. Raises pydantic's ValidationError for a text it did not write."""
    return Site.model_validate_json(text)
