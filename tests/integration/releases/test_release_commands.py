"""Releases through the command line and the REST API of a real installation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from drivers.bundle import Bundle
from levier.cli import app
from levier.domain.errors import LevierError
from tests.integration.releases.conftest import Installation, place

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def operator(served: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIER_API_URL", served.settings.api_url)
    monkeypatch.setenv("LEVIER_STATE_DIR", str(served.settings.state_dir))


def _levier(*arguments: str) -> str:
    """What the command prints. Raises what it fails with."""
    done = CliRunner().invoke(app, ["release", *arguments], catch_exceptions=False, env={"COLUMNS": "250"})
    assert done.exit_code == 0, done.output
    return done.output


def _json(*arguments: str) -> Any:
    return json.loads(_levier(*arguments, "--json"))


def test_all_releases_are_listed_with_what_is_built(bundle: Bundle) -> None:
    listed = {row["name"]: row for row in _json("list")}
    assert {"1999.1.1", "1999.1.2", "2026.1.1", "2026.1.2", "2026.2.1", "2026.2.2"} <= set(listed)
    (built,) = listed["1999.1.1"]["bundles"]
    assert (built["image"], built["sha256"]) == ("debian-12", bundle.manifest.sha256)
    assert listed["2026.2.1"]["bundles"] == []
    rows = [line.split() for line in _levier("list").splitlines() if "1999.1.1" in line]
    assert [row[1::2][:4] for row in rows] == [["1999.1.1", "3", "debian-12", "debian-12"]]


def test_a_series_stands_for_its_newest_level(later_bundle: Bundle) -> None:
    shown = _json("show", "1999.1")
    assert (shown["name"], shown["packages"]["tabulate"]) == ("1999.1.2", "0.10.0")
    assert shown["bundles"][0]["identity"] == later_bundle.manifest.identity
    text = _levier("show", "1999.1.1")
    assert "C code: the lock has the digest of its source distribution only" in text
    assert "no bundle is built: levier release build 2026.2.1 --image debian-12" in _levier("show", "2026.2.1")
    with pytest.raises(LevierError, match=r"there is no release 2031\.1") as caught:
        _levier("show", "2031.1")
    assert "2026.2.2" in caught.value.hint


def test_what_differs_between_two_releases() -> None:
    assert _json("diff", "1999.1.1", "1999.1.2") == {
        "before": "1999.1.1",
        "after": "1999.1.2",
        "changes": [{"name": "tabulate", "before": "0.9.0", "after": "0.10.0", "asked_for": True}],
    }
    nova = next(row for row in _json("diff", "2026.1", "2026.2")["changes"] if row["name"] == "nova")
    assert (nova["before"], nova["after"]) == ("33.0.2", "34.0.0")
    assert "1 packages differ" in _levier("diff", "1999.1.1", "1999.1")


def test_a_bundle_is_built_and_removed_by_command(served: Installation, bundle: Bundle, later_bundle: Bundle) -> None:
    """What is on the shelf already is kept; the build itself is shown in the other tests."""
    assert _json("build", "1999.1.1", "--image", "debian-12")["identity"] == bundle.manifest.identity
    with pytest.raises(LevierError, match=r"1999\.1\.1 is not for debian-13") as caught:
        _levier("build", "1999.1.1", "--image", "debian-13")
    assert caught.value.hint == "it is for: debian-12"
    with pytest.raises(LevierError, match=r"there is no bundle of release 1999\.1 "):
        _levier("remove", "1999.1", "--image", "debian-12")
    said = _levier("remove", "1999.1.2", "--image", "debian-12")
    assert said.startswith(f"removed {later_bundle.manifest.identity} for debian-12, ")
    assert [row["bundles"] for row in _json("list") if row["name"] == "1999.1.2"] == [[]]
    place(served, later_bundle)
