"""The JSON Schema of the site file, made from the models; published as docs/site.schema.json for editors."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

from levier.domain.problems import Path
from levier.domain.site import Site

DIALECT = "https://json-schema.org/draft/2020-12/schema"

Schema = dict[str, Any]


def site_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of a site file: it accepts every valid file.

    What a schema cannot say (references, overlaps, what may be used once) only `levier site validate` finds.
    """
    schema = deepcopy(_schema())
    return {"$schema": DIALECT, "title": "Levier site file", **{k: v for k, v in schema.items() if k != "title"}}


def schema_text() -> str:
    """The published file's text."""
    return json.dumps(site_schema(), indent=2, ensure_ascii=False) + "\n"


def schema_at(path: Path) -> Schema:
    """What the schema says of the value at `path`, references resolved; empty where it says nothing."""
    here = _resolved(_schema())
    for part in path:
        if isinstance(part, int):
            inner = here.get("items", {})
        else:
            inner = here.get("properties", {}).get(part) or here.get("additionalProperties") or {}
        here = _resolved(inner) if isinstance(inner, Mapping) else {}
    return here


def known_keys(path: Path) -> tuple[str, ...]:
    """The keys of the mapping at `path`; empty where any key may stand."""
    return tuple(schema_at(path).get("properties", {}))


def item_schema(schema: Schema) -> Schema:
    """The schema of each entry of the list that `schema` describes, references resolved."""
    return _resolved(schema.get("items", {}))


def walk_keys() -> Iterator[tuple[str, Schema, bool]]:
    """Every key of the file as (path with `[]` for list items, its schema, whether it is required), in file order."""
    yield from _walk("", _resolved(_schema()))


def _walk(prefix: str, schema: Schema) -> Iterator[tuple[str, Schema, bool]]:
    for key, inner in schema.get("properties", {}).items():
        path, resolved = f"{prefix}{key}", _resolved(inner)
        yield path, resolved, key in schema.get("required", ())
        items = item_schema(resolved)
        nested, suffix = (items, "[].") if "properties" in items else (resolved, ".")
        yield from _walk(f"{path}{suffix}", nested)


def _resolved(schema: Mapping[str, Any]) -> Schema:
    """`schema` with its reference followed and its null alternative left out; a description of its own stays."""
    found = dict(schema)
    alternatives = [each for each in found.pop("anyOf", ()) if each.get("type") != "null"]
    if len(alternatives) == 1:
        found = {**alternatives[0], **found}
    if "$ref" in found:
        target = _schema()["$defs"][found.pop("$ref").rsplit("/", 1)[-1]]
        found = _resolved({**target, **found})
    return found


@cache
def _schema() -> Schema:
    return _untitled(Site.model_json_schema(mode="validation"))


def _untitled(schema: Schema) -> Schema:
    """`schema` without the titles pydantic derives from names: they repeat the key and fill editors' pop-ups."""
    return {key: _untitled_value(value) for key, value in schema.items() if not _is_title(key, value)}


def _untitled_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _untitled(value)
    return [_untitled_value(each) for each in value] if isinstance(value, list) else value


def _is_title(key: str, value: object) -> bool:
    return key == "title" and isinstance(value, str)
