"""One content has one canonical form; a difference in content is a named difference."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from levier.domain.errors import NotFound
from levier.domain.site import Site
from levier.domain.site_canonical import canonical, digest, from_canonical
from levier.domain.site_diff import Change, ChangeKind, diff_sites
from levier.domain.site_validation import parse_site
from tests.unit.site_samples import EXAMPLES, SAMPLE, edited, load


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_valid_and_survive_being_stored(path: Any) -> None:
    document = load(path.read_text())
    stored = from_canonical(document.canonical)
    assert stored == document.site
    assert canonical(stored) == document.canonical
    assert digest(stored) == document.digest


def test_there_are_examples() -> None:
    assert [path.name for path in EXAMPLES] == ["rack-of-three.yaml", "two-zones.yaml"]


def test_layout_comments_defaults_and_spelling_make_no_difference() -> None:
    other = edited(
        (
            "site: {name: demo, domain: demo.example, timezone: Etc/UTC}",
            "# a comment\nsite:\n  domain: demo.example\n  name: 'demo'",
        ),
        ("[{name: a}, {name: b}]", "[{name: b}, {name: a}]"),
        ('"52:54:00:00:00:01"', '"52-54-00-00-00-01"'),
        ("address: 127.0.77.12,", "port: 623, address: 127.0.77.12,"),
        ("    roles: [compute]\n", "    roles: [compute]\n    # roles\n"),
    )
    assert load(other).digest == load(SAMPLE).digest
    assert diff_sites(load(SAMPLE).site, load(other).site) == ()


def _shuffled(value: Any, chance: random.Random) -> Any:
    """`value` with mappings and lists of named entries in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        chance.shuffle(items)
        return {key: _shuffled(inner, chance) for key, inner in items}
    if isinstance(value, list):
        items = [_shuffled(inner, chance) for inner in value]
        if all(isinstance(inner, dict) for inner in items):
            chance.shuffle(items)
        return items
    return value


@given(seed=st.integers(0, 2**32), which=st.sampled_from(EXAMPLES))
@settings(max_examples=25, deadline=None)
def test_the_order_of_entries_makes_no_difference(seed: int, which: Any) -> None:
    text = canonical(load(which.read_text()).site)
    shuffled = Site.model_validate(_shuffled(json.loads(text), random.Random(seed)))
    assert canonical(shuffled) == text


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(inner, (*path, key))]
    if isinstance(value, list):
        return [leaf for index, inner in enumerate(value) for leaf in _leaves(inner, (*path, index))]
    return [path]


_CONTENT = json.loads(load(SAMPLE).canonical)
_REPLACEMENTS: list[Any] = [
    1,
    0.5,
    True,
    None,
    "x",
    "10.77.0.40",
    "52:54:00:00:00:0a",
    [],
    {},
    "compute",
    "debian-13",
    "/",
]


@given(path=st.sampled_from(_leaves(_CONTENT)), value=st.sampled_from(_REPLACEMENTS))
@settings(max_examples=200, deadline=None)
def test_a_changed_value_is_refused_or_is_a_difference_and_another_digest(path: tuple[Any, ...], value: Any) -> None:
    changed = json.loads(json.dumps(_CONTENT))
    inner = changed
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = value
    site, findings = parse_site(changed)
    assert (site is None) == bool(findings)
    if site is not None:
        old = from_canonical(json.dumps(_CONTENT))
        assert bool(diff_sites(old, site)) == (digest(old) != digest(site)) == (canonical(old) != canonical(site))


def _diff(*changes: tuple[str, str]) -> list[Change]:
    return list(diff_sites(load(SAMPLE).site, load(edited(*changes)).site))


def test_a_changed_value_is_known_by_the_names_around_it() -> None:
    assert _diff(
        ("address: 127.0.77.12", "address: 127.0.77.99"), ("network: storage}", "network: storage, address: 10.78.0.5}")
    ) == [
        Change(path="nodes[a1-01].nics[eth1].address", kind=ChangeKind.ADDED, after="10.78.0.5"),
        Change(path="nodes[b1-01].bmc.address", kind=ChangeKind.CHANGED, before="127.0.77.12", after="127.0.77.99"),
    ]


def test_an_entry_that_comes_or_goes_is_one_change() -> None:
    old, new = load(SAMPLE).site, load(SAMPLE[: SAMPLE.index("  - name: b1-01")]).site
    (removed,) = diff_sites(old, new)
    (added,) = diff_sites(new, old)
    assert (removed.path, removed.kind, removed.after) == ("nodes[b1-01]", ChangeKind.REMOVED, None)
    assert (added.path, added.kind, added.before) == ("nodes[b1-01]", ChangeKind.ADDED, None)
    assert added.after == removed.before
    assert isinstance(added.after, dict)
    assert added.after["bmc"] == {"driver": "ipmi", "address": "127.0.77.12", "port": 623, "credential": "lab-bmc"}


def test_an_optional_part_that_goes_and_a_list_that_changes() -> None:
    changes = _diff(
        ("    root_device: {serial: ROOT-1}\n", ""),
        ("roles: [compute]", "roles: [storage, compute]"),
        ("tier: gold", "a.b: x"),
    )
    assert [(each.path, each.kind.value, each.before, each.after) for each in changes] == [
        ("nodes[a1-01].roles", "changed", ["compute"], ["compute", "storage"]),
        ("nodes[a1-01].labels.tier", "removed", "gold", None),
        ('nodes[a1-01].labels["a.b"]', "added", None, "x"),
        ("nodes[a1-01].root_device", "removed", {"serial": "ROOT-1"}, None),
    ]


@given(st.sampled_from(EXAMPLES), st.sampled_from(EXAMPLES))
@settings(max_examples=8, deadline=None)
def test_a_difference_read_backwards_is_the_difference_of_the_opposite(first: Any, second: Any) -> None:
    old, new = load(first.read_text()).site, load(second.read_text()).site
    there = {(each.path, str(each.before), str(each.after)) for each in diff_sites(old, new)}
    back = {(each.path, str(each.after), str(each.before)) for each in diff_sites(new, old)}
    assert there == back
    assert bool(there) == (first != second)


def test_a_site_built_in_a_program_is_checked_as_a_file_is() -> None:
    content = json.loads(load(SAMPLE).canonical)
    content["nodes"][0]["rack"] = "zz"
    with pytest.raises(ValueError, match="there is no rack named 'zz' under racks"):
        Site.model_validate(content)


def test_a_site_answers_what_operations_ask() -> None:
    site = load(SAMPLE).site
    node = site.node("b1-01")
    assert (site.zone_of(node), site.fqdn(node), site.boot_nic(node).mac) == (
        "b",
        "b1-01.demo.example",
        "52:54:00:00:00:03",
    )
    assert str(node.bmc.endpoint) == "127.0.77.12:623"
    assert {str(each) for each in site.fixed_addresses("provisioning")} == {"10.77.0.1", "10.77.0.2", "10.77.0.20"}
    assert len(site.network("storage").host_range or ()) == 3
    with pytest.raises(NotFound) as caught:
        site.node("b1-1")
    assert caught.value.hint == "did you mean 'b1-01'?"
