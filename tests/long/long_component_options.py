"""The releases' own programs on rendered files: their generators against the committed lists, their validators on each.

Runs in bundles that the session builds (or in the unpacked ones below the directory that LEVIER_BUNDLES names, each in
a folder called like its series); a minute or two for each series. `-k 2026.1` takes that series alone.
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

SERIES = sorted(known_options())


@pytest.fixture(scope="session", params=SERIES)
def series(request: pytest.FixtureRequest) -> str:
    """The series whose newest release is looked at."""
    return str(request.param)


@pytest.fixture(scope="session")
def bundle(series: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked bundle of the release; its programs run on this machine, which has the image's system."""
    if named := os.environ.get("LEVIER_BUNDLES"):
        return Path(named) / series
    release = ReleaseCatalogue(shipped_directory()).get(series)
    built = build_bundle(release, "debian-12", release_cache(), print)
    place = tmp_path_factory.mktemp(f"bundle-{series}")
    subprocess.run(["tar", "--zstd", "-xf", str(built.path), "-C", str(place)], check=True, timeout=300)
    return next(each.parent.parent for each in sorted(place.glob("**/bin/oslo-config-generator")))


def oslo_files(series: str) -> dict[str, tuple[Component, RenderedFile]]:
    """Each component's files on the first host that runs it, by path, in a site of that series."""
    site = site_in(TWO_ZONES).model_copy(update={"release": series})
    found: dict[str, tuple[Component, RenderedFile]] = {}
    for node in site.nodes:
        for component in components_of(site, node, shipped()):
            for file in rendered(site, node.name, component.name).files:
                if file.options:
                    found.setdefault(file.path, (component, file))
    return found


@pytest.mark.parametrize("program", sorted(namespaces()))
def test_the_committed_list_is_the_generators(bundle: Path, series: str, program: str) -> None:
    known = {section: sorted(options) for section, options in known_options()[series][program].items()}
    assert generated(bundle, program) == known


@pytest.mark.parametrize("path", sorted({path for each in SERIES for path in oslo_files(each)}))
def test_the_validator_finds_nothing(bundle: Path, series: str, tmp_path: Path, path: str) -> None:
    component, file = oslo_files(series)[path]
    assert file.options
    written = tmp_path / "file.conf"
    written.write_text(re.sub(r"@\{secret:[^}]*\}", "Secret1", file.content))
    command = validator_command(bundle, file.options, written)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    assert (done.returncode, complaints) == (0, []), f"{path} of {component.name}: {done.stderr[-2000:]}"
