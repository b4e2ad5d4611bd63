"""The releases' own programs on rendered files: their generators against the committed lists, their validators on each.

Runs in bundles that the session builds (or in the unpacked ones below the directory that LEVIER_BUNDLES names, each in
a folder called like its series); a minute or two for each series. `-k 2026.1` takes that series alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from drivers.bundle import build_bundle
from levier.services.components import RenderedFile, components_of
from levier.services.components.installed import listed_options
from levier.services.components.option_lists import for_validator, generated, validator_command
from levier.services.components.option_sections import namespaces
from levier.services.release_catalogue import ReleaseCatalogue, shipped_directory
from tests.rig.release_cache import release_cache
from tests.unit.components.sites import ONE_NIC, TWO_ZONES, rendered, shipped, site_in

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]

SERIES = sorted(listed_options())


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


SITES = {
    "two-zones": TWO_ZONES,
    "one-nic": ONE_NIC,
    "one-nic-lvm": ONE_NIC.replace("settings: {", "settings: {cinder-volume: {backend: lvm}, "),
}
"""VLANs and VXLAN; the hypervisors kvm, qemu and fake; volumes on NFS shares and of LVM, also as a site's setting."""


@cache
def oslo_files(series: str) -> dict[str, RenderedFile]:
    """Every distinct file of every host of the sites in that series: its site, host and path, and the file."""
    found: dict[str, RenderedFile] = {}
    seen: set[tuple[str, str]] = set()
    for case, text in SITES.items():
        site = site_in(text).model_copy(update={"release": series})
        for node in site.nodes:
            for component in components_of(site, node, shipped()):
                for file in rendered(site, node.name, component.name).files:
                    if file.options and (file.path, file.content) not in seen:
                        seen.add((file.path, file.content))
                        found[f"{case}:{node.name}:{file.path}"] = file
    return found


@pytest.mark.parametrize("program", sorted(namespaces()))
def test_the_committed_list_is_the_generators(bundle: Path, series: str, program: str) -> None:
    known = {section: sorted(options) for section, options in listed_options()[series][program].items()}
    assert generated(bundle, program) == known


@pytest.mark.parametrize("which", sorted({which for each in SERIES for which in oslo_files(each)}))
def test_the_validator_finds_nothing(bundle: Path, series: str, tmp_path: Path, which: str) -> None:
    file = oslo_files(series).get(which)
    if file is None:
        pytest.skip(f"{series} writes there what it writes elsewhere too")
    assert file.options
    written = tmp_path / "file.conf"
    written.write_text(for_validator(file.options, re.sub(r"@\{secret:[^}]*\}", "Secret1", file.content)))
    command = validator_command(bundle, file.options, written)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line]
    assert (done.returncode, complaints) == (0, []), f"{which}: {done.stderr[-2000:]}"


def test_the_validator_finds_what_is_wrong_in_a_backend(bundle: Path, tmp_path: Path) -> None:
    """Else its silence about the sections that no generator lists would say nothing."""
    written = tmp_path / "file.conf"
    written.write_text(for_validator("cinder", "[lvm]\nlvm_typ = thin\n"))
    done = subprocess.run(validator_command(bundle, "cinder", written), capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "lvm_typ is not part of the sample config" in done.stdout + done.stderr
