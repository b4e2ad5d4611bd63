"""YAML 1.2 text becomes a plain document that remembers where every key and value stands.

Built on ruamel.yaml's composer and not on its constructors: those stop at the first duplicate key, turn dates and other
scalars into objects, and keep no line for scalars.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from levier.domain.problems import Path, Problem, render_path

_CORE = "tag:yaml.org,2002:"
_PLAIN_KINDS = frozenset({"null", "bool", "int", "float", "timestamp", "merge", "value"})
_INT = re.compile(r"[-+]?[0-9]{1,4000}|0o[0-7]{1,4000}|0x[0-9a-fA-F]{1,4000}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
MAX_CHARACTERS = 64 * 1024 * 1024
MAX_VALUES = 1_000_000
"""Values after aliases are expanded: ten thousand nodes need some 300,000; what needs more is an alias bomb."""


@dataclass(frozen=True, slots=True)
class Position:
    """Line and column of a key and of its value, counted from 1, and the value's own text.

    What an alias or a merge brings in stands where it is used; an empty value stands where its key does.
    """

    key: tuple[int, int]
    value: tuple[int, int]
    source: str | None
    """Text of an unquoted scalar; None for all else."""


@dataclass(frozen=True, slots=True)
class Source:
    """A document and its positions."""

    document: object
    positions: dict[Path, Position]
    problems: tuple[Problem, ...]
    """What is wrong with the YAML itself though it can be read on: duplicate keys, tags, keys that are no text."""

    def position(self, path: Path) -> Position:
        """Where `path` stands, or the closest enclosing value that is in the file."""
        for length in range(len(path), -1, -1):
            if found := self.positions.get(path[:length]):
                return found
        return Position((1, 1), (1, 1), None)


def read_yaml(text: str) -> Source:
    """The document in `text`. When it cannot be read at all, the document is None and `problems` say why."""
    if len(text) > MAX_CHARACTERS:
        return _unreadable(Problem(line=1, column=1, path="", message="the file is too large", expected=_LIMIT))
    try:
        root = YAML(typ="safe", pure=True).compose(io.StringIO(text.removeprefix("\ufeff")))
    except ReaderError as error:
        return _unreadable(_bad_character(text, error))
    except MarkedYAMLError as error:
        return _unreadable(_syntax_problem(text, error))
    except (YAMLError, RecursionError, ValueError) as error:
        nested = "values are nested too deeply" if isinstance(error, RecursionError) else str(error)
        return _unreadable(Problem(line=1, column=1, path="", message=nested, expected="expected YAML 1.2"))
    if root is None:
        message, expected = "the file is empty", "expected at least `site: {name: …}`"
        return _unreadable(Problem(line=1, column=1, path="", message=message, expected=expected))
    builder = _Builder()
    document = builder.build(root, (), key=_start(root))
    return Source(document, builder.positions, tuple(builder.problems))


_LIMIT = f"expected at most {MAX_CHARACTERS // 1024**2} Mi characters"


class _TooLarge(Exception):
    """Expanding the aliases gives more values than any site has."""


@dataclass(slots=True)
class _Builder:
    positions: dict[Path, Position] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _open: list[int] = field(default_factory=list)
    """Identities of the nodes being built, outermost first: an alias to one of them has no end."""
    _seen: set[int] = field(default_factory=set)
    """Identities of the nodes built already: meeting one again, it came by an alias."""

    def build(self, node: Node, path: Path, *, key: tuple[int, int], used_at: tuple[int, int] | None = None) -> object:
        """The node's value. `used_at`: where the alias stands that brought it in, if one did."""
        source = node.value if isinstance(node, ScalarNode) and not node.style else None
        if used_at is None and (id(node) in self._seen or source == ""):
            used_at = key
        self._seen.add(id(node))
        self.positions[path] = Position(used_at or key, used_at or _start(node), source)
        if id(node) in self._open:
            self._problem(key, path, "the alias stands inside of what it refers to", "expected a finite value")
            return None
        if len(self.positions) > MAX_VALUES:
            if not self.problems or self.problems[-1].message != "aliases expand to too many values":
                self._problem(key, path, "aliases expand to too many values", f"expected at most {MAX_VALUES}")
            return None
        self._open.append(id(node))
        try:
            return self._value(node, path, None if source == "" else used_at)
        finally:
            self._open.pop()

    def _value(self, node: Node, path: Path, used_at: tuple[int, int] | None) -> object:
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        self._check_tag(node, path, {"map", "seq"})
        if isinstance(node, SequenceNode):
            items = enumerate(node.value)
            return [self.build(item, (*path, i), key=_start(item), used_at=used_at) for i, item in items]
        return self._mapping(node, path, used_at)

    def _mapping(self, node: Node, path: Path, used_at: tuple[int, int] | None) -> dict[str, object]:
        result: dict[str, object] = {}
        first: dict[str, tuple[int, int]] = {}
        for key_node, value_node in self._own_pairs(node, path):
            key = str(key_node.value)
            if key in first:
                message = f"the key is already there in line {first[key][0]}"
                self._problem(_start(key_node), (*path, key), message, "expected each key once")
                continue
            first[key] = _start(key_node)
            result[key] = self.build(value_node, (*path, key), key=_start(key_node), used_at=used_at)
        for merge, key_node, value_node in self._merged_pairs(node, path):
            key, at = str(key_node.value), used_at or _start(merge)
            if key not in result:
                result[key] = self.build(value_node, (*path, key), key=at, used_at=at)
        return result

    def _own_pairs(self, node: Node, path: Path) -> Iterator[tuple[Node, Node]]:
        for key_node, value_node in node.value:
            if not isinstance(key_node, ScalarNode):
                self._problem(_start(key_node), path, "a list or mapping stands where a key should", "expected a word")
            elif not _is_merge(key_node):
                yield key_node, value_node

    def _merged_pairs(self, node: Node, path: Path) -> Iterator[tuple[Node, Node, Node]]:
        """What `<<: *anchor` adds, as (the `<<`, key, value): not in YAML 1.2 itself, but what anchors are used for."""
        for key_node, value_node in node.value:
            if not _is_merge(key_node):
                continue
            sources = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
            for source in sources:
                if isinstance(source, MappingNode) and id(source) not in self._open:
                    self._open.append(id(source))
                    try:
                        yield from ((key_node, key, value) for key, value in self._own_pairs(source, path))
                        yield from ((key_node, key, value) for _, key, value in self._merged_pairs(source, path))
                    finally:
                        self._open.pop()
                else:
                    self._problem(_start(value_node), path, "<< merges mappings only", "expected an alias of a mapping")

    def _scalar(self, node: ScalarNode, path: Path) -> object:
        text = str(node.value)
        self._check_tag(node, path, {"str", *_PLAIN_KINDS})
        if node.style or _kind(node) == "str":
            return text
        return _resolve(text)

    def _check_tag(self, node: Node, path: Path, known: set[str]) -> None:
        if _kind(node) not in known:
            self._problem(_start(node), path, f"the tag {node.tag} means nothing here", "expected no tag")

    def _problem(self, at: tuple[int, int], path: Path, message: str, expected: str) -> None:
        self.problems.append(
            Problem(line=at[0], column=at[1], path=render_path(path), message=message, expected=expected)
        )


def _resolve(text: str) -> object:
    """The value of an unquoted scalar (YAML 1.2.2 section 10.3.2, core schema); a text when it is nothing else."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else text


def _kind(node: Node) -> str:
    return str(node.tag).removeprefix(_CORE)


def _is_merge(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.style and node.value == "<<"


def _start(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _unreadable(problem: Problem) -> Source:
    return Source(None, {}, (problem,))


def _bad_character(text: str, error: ReaderError) -> Problem:
    before = text[: error.position]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    message = f"the character U+{ord(text[error.position]):04X} is not allowed in YAML"
    return Problem(line=line, column=column, path="", message=message, expected="expected printable text in UTF-8")


def _syntax_problem(text: str, error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    lines = text.splitlines()
    current = lines[line - 1] if line <= len(lines) else ""
    indent = current[: len(current) - len(current.lstrip())]
    if "\t" in indent:
        column = indent.index("\t") + 1
        message, expected = "a tab is used for indentation", "expected spaces"
    else:
        message = " ".join(str(part) for part in (error.context, error.problem) if part)
        expected = "expected YAML 1.2; a text with ': ' in it, or with a special character first, needs quotes"
    return Problem(line=line, column=column, path="", message=f"not YAML: {message}", expected=expected)
