"""`levier site validate` of a correct file says what an installation would refuse it for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from levier.cli.site import app
from tests.unit.components.sites import TWO_ZONES

WITHOUT = TWO_ZONES.replace("also: [open-iscsi, nfs-client]", "also: [nfs-client]")
NO_STORAGE = TWO_ZONES.replace("roles: [controller, network, storage]", "roles: [network]")


def _validate(tmp_path: Path, text: str, *options: str) -> str:
    file = tmp_path / "site.yaml"
    file.write_text(text)
    result = CliRunner().invoke(app, ["validate", str(file), *options])
    assert result.exit_code == 0, result.output
    return result.output


def test_what_an_installation_would_lack_is_told_a_line_each(tmp_path: Path) -> None:
    said = _validate(tmp_path, WITHOUT)
    assert "correct. Site demo, 2 zones, 3 nodes." in said
    assert "levier install would refuse it" in said
    assert "need open-iscsi beside nova-compute" in said


@pytest.mark.parametrize(("text", "named"), [(WITHOUT, "open-iscsi"), (NO_STORAGE, "keystone")])
def test_the_same_as_json(tmp_path: Path, text: str, named: str) -> None:
    answer: dict[str, Any] = json.loads(_validate(tmp_path, text, "--json"))
    assert answer["valid"] is True
    assert any(named in sentence for sentence in answer["unmet"])


def test_a_site_that_lacks_nothing_is_only_correct(tmp_path: Path) -> None:
    assert "refuse" not in _validate(tmp_path, TWO_ZONES)
    assert json.loads(_validate(tmp_path, TWO_ZONES, "--json"))["unmet"] == []
