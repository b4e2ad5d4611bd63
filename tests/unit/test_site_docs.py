"""What docs/ says of the site file and of states is what the program does."""

from __future__ import annotations

import json
import re

from levier.domain.operation_log import OPERATION_TRANSITIONS, OperationState
from levier.domain.problems import Problem, render_problems
from levier.domain.schema import walk_keys
from levier.services.site_docs import BEGIN, END, with_reference
from levier.services.sitefile import SiteFileInvalid, load_site
from tests.unit.site_samples import ROOT

PAGE = (ROOT / "docs" / "site-file.md").read_text()


def _block(mark: str) -> str:
    match = re.search(rf"<!-- {re.escape(mark)} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert match, f"the page has no block {mark!r}"
    return match[1]


def test_the_reference_is_made_from_the_models() -> None:
    assert with_reference(PAGE) == PAGE, "make it anew: python -m levier.services.site_docs"
    reference = PAGE[PAGE.index(BEGIN) : PAGE.index(END)]
    assert all(f"| `{path}` |" in reference for path, _, _ in walk_keys())


def test_the_smallest_file_is_valid() -> None:
    assert load_site(_block("valid.yaml"), "valid.yaml").site.node("a1-01").bmc.port == 623


def _problems(text: str, filename: str) -> tuple[Problem, ...]:
    try:
        load_site(text, filename)
    except SiteFileInvalid as error:
        return error.problems
    return ()


def test_the_shown_output_is_what_the_shown_file_gives() -> None:
    problems = _problems(_block("invalid.yaml"), "invalid.yaml")
    assert len(problems) > 5
    assert _block("output of invalid.yaml") == render_problems(problems, "invalid.yaml") + "\n"


def test_the_life_of_an_operation_is_the_transition_table() -> None:
    concepts = (ROOT / "docs" / "concepts.md").read_text()
    for state in OperationState:
        row = re.search(rf"^\| `{state}` \| ([a-z_, ]*)\|$", concepts, re.MULTILINE)
        assert row, f"concepts.md has no row for {state}"
        assert {each.strip() for each in row[1].split(",") if each.strip()} == set(OPERATION_TRANSITIONS[state])


def test_the_schema_file_is_json_that_ends_as_text_files_do() -> None:
    text = (ROOT / "docs" / "site.schema.json").read_text()
    assert json.loads(text)["title"] == "Levier site file"
    assert text.endswith("}\n")
