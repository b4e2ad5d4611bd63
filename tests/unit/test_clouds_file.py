"""The clouds.yaml of an operator: other clouds in it stay, and what is none is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from levier.cli.cloud import clouds_in, write_clouds
from levier.domain.errors import InvalidRequest


def test_other_clouds_and_what_was_said_of_them_stay(tmp_path: Path) -> None:
    file = tmp_path / "clouds.yaml"
    file.write_text("# ours\nclouds:\n  old:\n    auth: {auth_url: 'https://old.example'}  # soon gone\n")
    content = clouds_in(file)
    content["clouds"]["new"] = {"auth": {"auth_url": "https://new.example", "secret": "x" * 200}}
    write_clouds(file, content)
    text = file.read_text()
    assert "# ours" in text
    assert "# soon gone" in text
    assert set(YAML(typ="safe").load(text)["clouds"]) == {"old", "new"}
    assert f"secret: {'x' * 200}\n" in text, "no line is broken"


def test_the_file_is_its_owners_alone_and_never_half_written(tmp_path: Path) -> None:
    file = tmp_path / "clouds.yaml"
    file.write_text("clouds: {}\n")
    file.chmod(0o644)
    write_clouds(file, clouds_in(file))
    assert file.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["clouds.yaml"]


def test_without_a_file_there_are_no_clouds_yet(tmp_path: Path) -> None:
    assert clouds_in(tmp_path / "clouds.yaml") == {"clouds": {}}


@pytest.mark.parametrize(("text", "why"), [("clouds: [", "is no YAML"), ("other: 1\n", "lists no clouds")])
def test_what_is_none_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "clouds.yaml"
    file.write_text(text)
    with pytest.raises(InvalidRequest, match=why):
        clouds_in(file)
    assert file.read_text() == text
