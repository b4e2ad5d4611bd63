"""The published JSON Schema is the models' own and good enough for an editor."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from levier.domain.schema import DIALECT, known_keys, schema_text, site_schema, walk_keys
from levier.services.yaml_source import read_yaml
from tests.unit.site_samples import EXAMPLES, ROOT, SAMPLE, edited

VALIDATOR = jsonschema.Draft202012Validator(
    site_schema(), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
)


def test_the_published_schema_is_the_generated_one() -> None:
    published = (ROOT / "docs" / "site.schema.json").read_text()
    assert published == schema_text(), "make it anew: python -m levier.services.site_docs"


def test_it_is_a_valid_schema_of_the_dialect_it_names() -> None:
    assert site_schema()["$schema"] == DIALECT
    jsonschema.Draft202012Validator.check_schema(json.loads(schema_text()))


@pytest.mark.parametrize("text", [SAMPLE, *(path.read_text() for path in EXAMPLES)])
def test_it_accepts_valid_files(text: str) -> None:
    VALIDATOR.validate(read_yaml(text).document)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("driver: ipmi", "password: x, driver: ipmi", ["nodes", 0, "bmc"]),
        ("    image: debian-12\n    roles", "    roles", ["nodes", 0]),
        ("port: 6230", "port: 0", ["nodes", 0, "bmc", "port"]),
        ("firmware: uefi", "firmware: efi", ["nodes", 1, "firmware"]),
        ("name: b1-01", "name: B1", ["nodes", 1, "name"]),
        ("name: b1-01", 'name: "101"', ["nodes", 1, "name"]),
        ("gateway: 10.77.0.1\n", "gateway: 10.77.0.300\n", ["networks", 0, "gateway"]),
        ("cidr: 10.78.0.0/24", "cidr: 10.78.0.0", ["networks", 1, "cidr"]),
        ("52:54:00:00:00:03", "52:54", ["nodes", 1, "nics", 0, "mac"]),
        ("{serial: ROOT-1}", "{rotational: yes}", ["nodes", 0, "root_device"]),
        ("tier: gold", "tier: 1", ["nodes", 0, "labels", "tier"]),
    ],
)
def test_it_refuses_what_a_schema_can_see(old: str, new: str, where: list[Any]) -> None:
    errors = list(VALIDATOR.iter_errors(read_yaml(edited((old, new))).document))
    assert errors
    assert all(list(error.absolute_path)[: len(where)] == where for error in errors)


def test_every_key_has_words_for_the_editors_pop_up() -> None:
    keys = list(walk_keys())
    assert len(keys) > 50
    assert [path for path, schema, _ in keys if not schema.get("description")] == []


def test_keys_are_known_by_path() -> None:
    assert known_keys(("nodes", 3, "bmc"))[:3] == ("driver", "address", "port")
    assert known_keys(("networks", 0, "dhcp_range")) == ("start", "end")
    assert known_keys(("nodes", 0, "labels")) == ()
