"""What docs/ says of the site file, made from the models: the JSON Schema and the reference of all keys."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from levier.domain.schema import Schema, item_schema, schema_text, walk_keys

BEGIN = "<!-- keys: made by python -m levier.services.site_docs -->"
END = "<!-- end of keys -->"


def reference() -> str:
    """Every key of the site file as Markdown tables, one a section."""
    sections: dict[str, list[str]] = {}
    for path, schema, required in walk_keys():
        section = path.split(".")[0].removesuffix("[]")
        sections.setdefault(section, []).append(_row(path, schema, required=required))
    return "\n".join(_table(section, rows) for section, rows in sections.items())


def with_reference(page: str) -> str:
    """`page` with the part between the two marks made anew. Raises ValueError when a mark is missing."""
    before, after = page.split(BEGIN)[0], page.split(END)[1:]
    if len(after) != 1 or BEGIN not in page:
        raise ValueError(f"the page needs {BEGIN!r} and {END!r}, once each")
    return f"{before}{BEGIN}\n{reference()}\n{END}{after[0]}"


def main(docs: Path) -> None:
    """docs/site.schema.json and the reference in docs/site-file.md are those of the models. Safe to repeat."""
    (docs / "site.schema.json").write_text(schema_text())
    page = docs / "site-file.md"
    page.write_text(with_reference(page.read_text()))


def _table(section: str, rows: list[str]) -> str:
    head = ["| key | value | default | meaning |", "|---|---|---|---|"]
    return "\n".join([f"\n### `{section}`\n", *head, *rows])


def _row(path: str, schema: Schema, *, required: bool) -> str:
    meaning = " ".join(str(schema.get("description", "")).split()).replace("|", "\\|")
    return f"| `{path}` | {_kind(schema)} | {_default(schema, required=required)} | {meaning} |"


def _default(schema: Schema, *, required: bool) -> str:
    if required:
        return "**required**"
    default: Any = schema.get("default")
    if default in (None, [], {}):
        return ""
    return f"`{default if isinstance(default, str) else json.dumps(default)}`"


def _kind(schema: Schema) -> str:
    """The value in words; numbers with their bounds."""
    if choices := schema.get("enum") or ([schema["const"]] if "const" in schema else None):
        return " \\| ".join(f"`{each}`" for each in choices)
    if schema.get("type") == "array":
        items = item_schema(schema)
        return "list" if "properties" in items else f"list of {_kind(items)}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` \\| `false`"}
    kind = schema.get("type")
    word = words.get(str(kind), "mapping")
    formats = {"ipv4": "IPv4 address"}
    return formats.get(str(schema.get("format")), word + _bounds(schema))


def _bounds(schema: Schema) -> str:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum")
    if low is None:
        return ""
    above = f"over {low:g}" if "exclusiveMinimum" in schema else f"from {low:g}"
    return f", {above} to {high:g}" if high is not None else f", {above}"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs"))
