"""A plain document becomes a site, or every reason why it cannot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from levier.domain.problems import Finding, Path, suggest
from levier.domain.schema import known_keys, schema_at
from levier.domain.site import INCONSISTENT, Site
from levier.domain.site_checks import cross_check
from levier.domain.site_types import show

_SECRET_KEYS = frozenset({"password", "passwd", "pass", "pw", "secret", "username", "user", "login", "token"})
_TYPES = {
    "string_type": ("a text", "expected a text"),
    "int_type": ("a whole number", "expected a whole number"),
    "int_from_float": ("a whole number", "expected a whole number"),
    "float_type": ("a number", "expected a number"),
    "bool_type": ("true or false", "expected true or false"),
    "tuple_type": ("a list", "expected a list: [] or lines that begin with '-'"),
    "dict_type": ("a mapping", "expected a mapping: {} or lines of 'key: value'"),
    "model_type": ("a mapping", "expected a mapping: lines of 'key: value'"),
    "model_attributes_type": ("a mapping", "expected a mapping: lines of 'key: value'"),
    "string_unicode": ("a text", "expected Unicode text"),
}
_BOUNDS = {"greater_than": ("gt", "more than"), "greater_than_equal": ("ge", "at least")}
_BOUNDS |= {"less_than": ("lt", "less than"), "less_than_equal": ("le", "at most")}


def parse_site(document: object) -> tuple[Site | None, tuple[Finding, ...]]:
    """The site and no findings, or None and every finding: the model's by value, then those between entries. Pure."""
    findings: list[Finding] = []
    site: Site | None = None
    try:
        site = Site.model_validate(document)
    except ValidationError as error:
        details = error.errors(include_url=False)
        findings = [_finding(each) for each in details if each["type"] != INCONSISTENT]
        findings += cross_check(document)
    return site, tuple(findings)


def _finding(error: Mapping[str, Any]) -> Finding:
    """The finding an operator understands for one error of pydantic."""
    kind, context = str(error["type"]), error.get("ctx", {})
    at_key = error["loc"][-1:] == ("[key]",)
    path: Path = tuple(part for part in error["loc"] if part != "[key]")
    if kind == "extra_forbidden":
        return _unknown_key(path)
    if kind == "site_value":
        return Finding(path, context["reason"], context["expected"], at_key=at_key)
    if path[-1:] == ("credential",) and kind != "missing":
        # Not shown: it may well be the password itself.
        return Finding(path, "this is not the name of a secret", _described(path))
    message, expected = _wording(kind, context, error, path)
    return Finding(path, message, expected, at_key=at_key, wants_text=kind == "string_type")


def _wording(kind: str, context: Mapping[str, Any], error: Mapping[str, Any], path: Path) -> tuple[str, str]:
    value = error.get("input")
    if kind == "missing":
        return "is missing", _described(path)
    if kind == "enum":
        choices = [str(each) for each in schema_at(path).get("enum", ())]
        return f"{show(value)} is not known here", suggest(str(value), choices, otherwise=_one_of(choices))
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return f"{show(value)} is out of bounds", f"expected {words} {context[bound]:g}"
    if kind == "too_short":
        return "the list is empty", f"expected at least {context['min_length']} entry"
    if kind in _TYPES:
        what, expected = _TYPES[kind]
        return (f"is empty, not {what}" if value is None else f"{show(value)} is not {what}"), expected
    return str(error["msg"]), _described(path)


def _unknown_key(path: Path) -> Finding:
    key, known = str(path[-1]), known_keys(path[:-1])
    if key.lower() in _SECRET_KEYS:
        message = "a secret does not belong into the site file"
        expected = "store it by `levier secret set NAME` and write `credential: NAME` instead"
        return Finding(path, message, expected, at_key=True)
    return Finding(path, "unknown key", suggest(key, known, otherwise=_one_of(known)), at_key=True)


def _one_of(words: tuple[str, ...] | list[str]) -> str:
    return f"expected one of {', '.join(words)}"


def _described(path: Path) -> str:
    """What belongs at `path`, from the model's own words."""
    sentence = str(schema_at(path).get("description", "")).split(". ")[0].split("\n")[0].rstrip(".")
    return f"expected: {sentence[:1].lower()}{sentence[1:]}" if sentence else ""
