"""YAML 1.2 is read as the specification says, and what is wrong with it is named with its place."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from levier.domain.problems import Problem
from levier.services.sitefile import SiteFileInvalid, load_site
from levier.services.yaml_source import read_yaml
from tests.unit.site_samples import EXAMPLES, SAMPLE, edited, load, position_of, refusal


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("True", True),
        ("~", None),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1e3", 1000.0),
        ("-2.5", -2.5),
        ("2024-05-01", "2024-05-01"),
        ("12:30:45", "12:30:45"),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("null x", "null x"),
        ("52:54:00:00:00:01", "52:54:00:00:00:01"),
    ],
)
def test_scalars_follow_the_core_schema_of_yaml_1_2(text: str, value: object) -> None:
    document = read_yaml(f"key: {text}\n").document
    assert document == {"key": value}
    assert type(document["key"]) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "column", "message", "expected"),
    [
        ("", 1, 1, "the file is empty", "site:"),
        ("# nothing\n", 1, 1, "the file is empty", "site:"),
        ("site:\n\tname: demo\n", 2, 1, "a tab is used for indentation", "spaces"),
        ("site: {name: demo\n", 2, 1, "not YAML", "YAML 1.2"),
        ("site: a: b\n", 1, 8, "mapping values are not allowed", "quotes"),
        ("site: *nowhere\n", 1, 7, "undefined alias 'nowhere'", "YAML 1.2"),
        ("site: {}\n---\nsite: {}\n", 2, 1, "another document", "YAML 1.2"),
        ("site: {name: 'a\x01b'}\n", 1, 16, "U+0001 is not allowed", "UTF-8"),
        ("[" * 5000, 1, 1, "nested too deeply", "YAML 1.2"),
    ],
)
def test_what_is_not_yaml_is_one_problem_with_its_place(
    text: str, line: int, column: int, message: str, expected: str
) -> None:
    (problem,) = refusal(text).problems
    assert (problem.line, problem.column) == (line, column), problem
    assert message in problem.message
    assert expected in problem.expected


@pytest.mark.parametrize("text", ["just words", "- a\n- b\n", "12"])
def test_a_file_that_is_no_mapping_is_refused(text: str) -> None:
    problems = refusal(text).problems
    assert [(each.line, each.path) for each in problems] == [(1, "")]
    assert "is not a mapping" in problems[0].message


def test_every_duplicate_key_is_named_with_the_first_ones_line() -> None:
    text = edited(("rack: a1\n", "rack: a1\n    rack: b1\n"), ("cidr: 10.78.0.0/24", "cidr: 10.78.0.0/24\n    cidr: 1"))
    problems = refusal(text).problems
    assert [(each.path, each.message) for each in problems] == [
        ("networks[1].cidr", "the key is already there in line 15"),
        ("nodes[0].rack", "the key is already there in line 22"),
    ]
    assert [each.line for each in problems] == [16, 23]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("site: !secret {name: demo}\n", "the tag !secret means nothing here"),
        ("site: {name: !!binary aGk=}\n", "means nothing here"),
        ("? [a, b]\n: 1\nsite: {name: demo}\n", "a list or mapping stands where a key should"),
        ("site: &s {name: demo, sysctl: *s}\n", "the alias stands inside of what it refers to"),
        ("site: {name: demo, <<: 3}\n", "<< merges mappings only"),
    ],
)
def test_yaml_that_no_site_file_needs_is_refused(text: str, message: str) -> None:
    assert any(message in each.message for each in refusal(text).problems)


def test_an_alias_bomb_is_refused_in_bounded_time() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 9))
    began = time.monotonic()
    error = refusal(f"l0: &l0 [x, x, x, x, x, x, x, x, x, x]\n{levels}\n")
    assert any("aliases expand to too many values" in each.message for each in error.problems)
    assert time.monotonic() - began < 60


def test_anchors_and_merges_give_what_writing_it_out_gives() -> None:
    anchored = edited(
        (
            "bmc: {driver: ipmi, address: 127.0.77.11, port: 6230,",
            "bmc: &bmc {driver: ipmi, address: 127.0.77.11, port: 6230,",
        ),
        ("bmc: {driver: ipmi, address: 127.0.77.12,", "bmc: {<<: *bmc, address: 127.0.77.12, port: 623,"),
    )
    assert load(anchored).digest == load(SAMPLE).digest


def test_an_error_that_a_merge_brings_in_points_to_the_merge() -> None:
    text = edited(
        ("bmc: {driver: ipmi, address: 127.0.77.11,", "bmc: &bmc {driver: ipmi, address: 127.0.77.11,"),
        ("bmc: {driver: ipmi, address: 127.0.77.12,", "bmc: {<<: *bmc,"),
    )
    (problem,) = refusal(text).problems
    assert problem.path == "nodes[1].bmc.address"
    assert (problem.line, problem.column) == position_of(text, "<<")


def test_line_ends_and_a_byte_order_mark_make_no_difference() -> None:
    assert load("\ufeff" + SAMPLE.replace("\n", "\r\n")).digest == load(SAMPLE).digest


def test_a_thousand_nodes_are_read_in_seconds() -> None:
    head = SAMPLE[: SAMPLE.index("nodes:")].replace("10.77.0.0/24", "10.77.0.0/16")
    head = head.replace(
        "host_range: {start: 10.77.0.10, end: 10.77.0.99}", "host_range: {start: 10.77.1.0, end: 10.77.9.0}"
    )
    node = (
        "  - {{name: n-{0}, rack: a1, firmware: bios, image: debian-12, "
        "bmc: {{driver: ipmi, address: 127.1.{1}.{2}, credential: lab}}, "
        'nics: [{{name: eth0, mac: "52:54:00:00:{1:02x}:{2:02x}", network: provisioning}}]}}\n'
    )
    text = head + "nodes:\n"
    text += "".join(node.format(n, n // 200, n % 200) for n in range(1000))
    began = time.monotonic()
    assert len(load(text).site.nodes) == 1000
    assert time.monotonic() - began < 30


@given(st.data())
def test_no_file_however_damaged_meets_anything_but_a_list_of_problems(data: st.DataObject) -> None:
    text = EXAMPLES[0].read_text()
    start = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 40))
    filler = data.draw(st.text(alphabet=st.sampled_from("{}[]:,-#&*!|>'\"%@`\t\n \x00a0~<=?é\ud800"), max_size=6))
    damaged = text[:start] + filler + text[start + length :]
    problems = _problems(damaged)
    lines = damaged.count("\n") + 2
    assert all(1 <= each.line <= lines and each.column >= 1 and each.message for each in problems)


def _problems(text: str) -> tuple[Problem, ...]:
    try:
        load_site(text, "site.yaml")
    except SiteFileInvalid as error:
        return error.problems or (Problem(line=0, column=0, path="", message="refused without a reason", expected=""),)
    return ()
