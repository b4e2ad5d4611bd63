"""Raw options are merged into a rendered INI file; comments and order stay."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from pydantic import JsonValue

_SECTION = re.compile(r"\[(?P<name>[^\]]+)\]\s*")
_OPTION = re.compile(r"(?P<name>[^\s#;=\[][^=]*?)\s*=.*")


def merged(text: str, sections: Mapping[str, Mapping[str, JsonValue]]) -> str:
    """`text` with each option at its value: in the place of the first earlier one, else at the end of its section.

    A list gives the option once for each entry. Sections that are not there are added at the end, by name. Safe to
    repeat. Pure.
    """
    blocks = _blocks(text)
    for name in sorted(sections):
        block = next((lines for section, lines in blocks if section == name), None)
        if block is None:
            if blocks[-1][1] and blocks[-1][1][-1].strip():
                blocks[-1][1].append("")
            block = [f"[{name}]"]
            blocks.append((name, block))
        for option, value in sorted(sections[name].items()):
            _set(block, option, _lines(option, value))
    return "\n".join(line for _, lines in blocks for line in lines).rstrip("\n") + "\n"


def _blocks(text: str) -> list[tuple[str, list[str]]]:
    """The lines by section, each block with its heading; what stands before the first has an empty name."""
    blocks: list[tuple[str, list[str]]] = [("", [])]
    for line in text.splitlines():
        if heading := _SECTION.fullmatch(line):
            blocks.append((heading["name"], []))
        blocks[-1][1].append(line)
    return blocks


def _set(block: list[str], option: str, lines: list[str]) -> None:
    places = [i for i, line in enumerate(block) if _names(line, option)]
    if places:
        for index in reversed(places[1:]):
            del block[index]
        block[places[0] : places[0] + 1] = lines
        return
    end = len(block)
    while end and not block[end - 1].strip():
        end -= 1
    block[end:end] = lines


def _names(line: str, option: str) -> bool:
    match = _OPTION.fullmatch(line)
    return bool(match and match["name"] == option)


def _lines(option: str, value: JsonValue) -> list[str]:
    values: Iterable[JsonValue] = value if isinstance(value, list) else [value]
    return [f"{option} = {_text(each)}" for each in values]


def _text(value: JsonValue) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
