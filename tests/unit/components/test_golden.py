"""Every file of every component on two small sites, byte for byte; secrets are references in them.

A wanted change is seen as a difference under golden/: `LEVIER_WRITE_GOLDEN=1 pytest THIS_FILE` writes it, git shows it.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from levier.services.components import components_of, masked, references
from tests.unit.components.sites import ONE_NIC, TWO_ZONES, rendered, shipped, site_in

GOLDEN = Path(__file__).parent / "golden"
SITES = {"two-zones": TWO_ZONES, "one-nic": ONE_NIC}
HOSTS = [("two-zones", "a1-01"), ("two-zones", "a1-02"), ("two-zones", "b1-01"), ("one-nic", "one"), ("one-nic", "two")]


@pytest.mark.parametrize(("case", "host"), HOSTS)
def test_the_files_of_a_host_are_those_expected(case: str, host: str) -> None:
    site = site_in(SITES[case])
    files = {}
    for component in components_of(site, site.node(host), shipped()):
        for file in rendered(site, host, component.name).files:
            assert file.path not in files, f"{component.name} writes {file.path}, which is another's"
            files[file.path] = f"# {file.owner}:{file.group} {file.mode:04o}\n{file.content}"
    place = GOLDEN / case / host
    if os.environ.get("LEVIER_WRITE_GOLDEN"):
        for path, content in files.items():
            (place / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
            (place / path.lstrip("/")).write_text(content)
    expected = {f"/{each.relative_to(place)}": each.read_text() for each in place.rglob("*") if each.is_file()}
    assert files == expected


@pytest.mark.parametrize(("case", "host"), HOSTS)
def test_what_others_can_read_holds_no_secret_and_masking_leaves_none(case: str, host: str) -> None:
    site = site_in(SITES[case])
    held = set()
    for component in components_of(site, site.node(host), shipped()):
        for file in rendered(site, host, component.name).files:
            found = references(file.content)
            held |= found
            assert not found or not file.mode & 0o137, f"{file.path} {file.mode:04o} holds {sorted(found)}"
            assert not references(masked(file.content))
            assert (masked(file.content) != file.content) == bool(found)
    assert held, "a host whose files hold no secret proves nothing here"
