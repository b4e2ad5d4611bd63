"""The release's own programs on rendered files: its generator against the committed list, its validator on each.

Runs in the bundle that the session builds (or in the unpacked one that LEVIER_BUNDLE names); a minute or two.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from drivers.bundle import build_bundle
from levier.domain.component import Component
from levier.services.components import RenderedFile, components_of
from levier.services.components.installed import known_options
from levier.services.components.option_lists import generated, namespaces, validator_command
from levier.services.release_catalogue import ReleaseCatalogue, shipped_directory
from tests.rig.release_cache import release_cache
from tests.unit.components.sites import TWO_ZONES, rendered, shipped, site_in

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

SERIES = "2026.2"


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked bundle of the release; its programs run on this machine, which has the image's system."""
    if named := os.environ.get("LEVIER_BUNDLE"):
        return Path(named)
    release = ReleaseCatalogue(shipped_directory()).get(SERIES)
    built = build_bundle(release, "debian-12", release_cache(), print)
    place = tmp_path_factory.mktemp("bundle")
    subprocess.run(["tar", "--zstd", "-xf", str(built.path), "-C", str(place)], check=True, timeout=300)
    return next(each.parent.parent for each in sorted(place.glob("**/bin/oslo-config-generator")))


def oslo_files() -> list[tuple[Component, RenderedFile]]:
    """Each component's files on the first host that runs it."""
    site = site_in(TWO_ZONES)
    found: dict[str, tuple[Component, RenderedFile]] = {}
    for node in site.nodes:
        for component in components_of(site, node, shipped()):
            for file in rendered(site, node.name, component.name).files:
                if file.options:
                    found.setdefault(file.path, (component, file))
    return list(found.values())


@pytest.mark.parametrize("program", sorted(namespaces()))
def test_the_committed_list_is_the_generators(bundle: Path, program: str) -> None:
    known = {section: sorted(options) for section, options in known_options(SERIES)[program].items()}
    assert generated(bundle, program) == known


@pytest.mark.parametrize(("component", "file"), [pytest.param(*each, id=each[1].path) for each in oslo_files()])
def test_the_validator_finds_nothing(bundle: Path, tmp_path: Path, component: Component, file: RenderedFile) -> None:
    assert file.options
    path = tmp_path / "file.conf"
    path.write_text(re.sub(r"@\{secret:[^}]*\}", "Secret1", file.content))
    done = subprocess.run(validator_command(bundle, file.options, path), capture_output=True, text=True, timeout=120)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    assert (done.returncode, complaints) == (0, []), f"{file.path} of {component.name}: {done.stderr[-2000:]}"
