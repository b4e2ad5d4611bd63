"""The JSON Schema of component.yaml, and its errors in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import ValidationError

from levier.domain.component import Component
from levier.domain.problems import Path, suggest
from levier.domain.schema import DIALECT
from levier.domain.site_types import show


def component_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a component.yaml."""
    return {"$schema": DIALECT, **_schema(), "title": "Levier component"}


def component_schema_text() -> str:
    """The published file's text."""
    return json.dumps(component_schema(), indent=2, ensure_ascii=False) + "\n"


def component_findings(error: ValidationError) -> Iterator[tuple[Path, str, str]]:
    """Each error as (path, what is wrong, what would be right)."""
    for each in error.errors(include_url=False):
        path = tuple(part for part in each["loc"] if part != "[key]")
        context = each.get("ctx", {})
        if each["type"] == "extra_forbidden":
            known = _keys(path[:-1])
            yield path, "unknown key", suggest(str(path[-1]), known, otherwise=f"expected one of {', '.join(known)}")
        elif each["type"] == "missing":
            yield path, "is missing", _described(path)
        elif each["type"] == "site_value":
            yield path, context["reason"], context["expected"]
        elif each["type"] in ("enum", "literal_error"):
            yield path, f"{show(each['input'])} is not known here", f"expected {context['expected']}"
        else:
            yield path, f"{show(each['input'])}: {each['msg']}", _described(path)


def _described(path: Path) -> str:
    sentence = str(_at(path).get("description", "")).split("\n")[0].split(". ")[0].rstrip(".;")
    return f"expected: {sentence[:1].lower()}{sentence[1:]}" if sentence else ""


def _keys(path: Path) -> tuple[str, ...]:
    return tuple(_at(path).get("properties", {}))


def _at(path: Path) -> Mapping[str, Any]:
    here = _followed(_schema())
    for part in path:
        inner = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part)
        here = _followed(inner or here.get("additionalProperties") or {})
    return here


def _followed(schema: Any) -> Mapping[str, Any]:
    if not isinstance(schema, Mapping):
        return {}
    found = dict(schema)
    choices = [each for each in found.pop("anyOf", ()) if each.get("type") != "null"]
    if len(choices) == 1:
        found = {**choices[0], **found}
    if "$ref" in found:
        found = {**_schema()["$defs"][found.pop("$ref").rsplit("/", 1)[-1]], **found}
    return found


@cache
def _schema() -> dict[str, Any]:
    return Component.model_json_schema(mode="validation")
