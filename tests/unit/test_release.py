"""Releases: names, locks, what changed, and the ones that Levier ships."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from levier.domain.errors import Conflict, InvalidRequest, NotFound
from levier.domain.release import (
    BundleManifest,
    Change,
    Release,
    ReleaseSpec,
    check_release,
    diff_packages,
    find_release,
    normal_name,
    parse_lock,
    parse_release_name,
)
from levier.services.release_catalogue import ReleaseCatalogue, read_release, shipped_directory

A, B, C = ("a" * 64, "b" * 64, "c" * 64)
LOCK = f"""\
# a comment
alembic==1.20.1 \\
    --hash=sha256:{A} \\
    --hash=sha256:{B}
Oslo.Config==10.7.0 --hash=sha256:{C}
"""


def spec(**changes: Any) -> ReleaseSpec:
    document = {
        "series": "2026.2",
        "patch": 1,
        "summary": "test",
        "as_of": "2026-10-02T00:00:00Z",
        "images": ["debian-12"],
        "python": "3.11",
        "packages": [{"name": "alembic", "version": "1.20.1", "why": "a reason"}],
    }
    return ReleaseSpec.model_validate({**document, **changes})


def release(name: str) -> Release:
    series, _, patch = name.rpartition(".")
    return Release(spec(series=series, patch=int(patch)), parse_lock(LOCK), parse_lock(""))


def test_a_name_is_a_series_and_perhaps_a_patch_level() -> None:
    assert parse_release_name("2026.2.13") == ("2026.2", 13)
    assert parse_release_name("2026.2") == ("2026.2", None)
    assert str(parse_release_name("2026.2.1")) == "2026.2.1"


@pytest.mark.parametrize("text", ["", "2026", "2026.2.", "26.2.1", "2026.2.1.1", "v2026.2", "2026.2.1\n", "../2026.2"])
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="is no name of a release"):
        parse_release_name(text)


def test_a_series_stands_for_its_newest_patch_level() -> None:
    releases = [release(name) for name in ("2026.2.9", "2026.2.10", "2026.1.11", "2025.2.1")]
    assert find_release(releases, "2026.2").name == "2026.2.10"
    assert find_release(releases, "2026.2.9").name == "2026.2.9"
    with pytest.raises(NotFound) as caught:
        find_release(releases, "2026.2.1")
    assert caught.value.hint == "there are: 2025.2.1, 2026.1.11, 2026.2.9, 2026.2.10"


def test_a_lock_is_read() -> None:
    lock = parse_lock(LOCK)
    assert lock.versions() == {"alembic": "1.20.1", "oslo-config": "10.7.0"}
    assert lock.packages[0].sha256s == {A, B}
    assert lock.digest == parse_lock(LOCK).digest != parse_lock(LOCK + "\n").digest


@pytest.mark.parametrize(
    "line",
    [
        "alembic==1.0",
        "alembic>=1.0 --hash=sha256:" + A,
        "alembic==1.0 --hash=md5:" + A,
        "alembic==1.0 --hash=sha256:" + A[:-1],
        "--index-url https://example.org/simple",
        "-e .",
        "alembic @ https://example.org/a.whl --hash=sha256:" + A,
        "alembic==1.0 --hash=sha256:" + A + " --no-binary :all:",
        "alembic==1.0 --hash=sha256:" + A + " \\",
        "alembic==1.0 --hash=sha256:" + A + "\nAlembic==1.0 --hash=sha256:" + A,
    ],
)
def test_a_lock_holds_versions_with_digests_and_nothing_else(line: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^line [12] of the lock"):
        parse_lock(line)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.sampled_from(["1.0", "2.0", "2.1"])))
def test_a_lock_survives_being_written_and_read(versions: dict[str, str]) -> None:
    text = "".join(f"{name}=={version} --hash=sha256:{A}\n" for name, version in versions.items())
    assert parse_lock(text).versions() == versions


_VERSIONS = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("123"))


@given(_VERSIONS, _VERSIONS)
def test_a_difference_is_complete_and_leads_from_one_to_the_other(
    before: dict[str, str], after: dict[str, str]
) -> None:
    changes = diff_packages(before, after)
    result = dict(before)
    for name, old, new in changes:
        assert before.get(name) == old != new
        result.pop(name, None)
        if new is not None:
            result[name] = new
    assert result == after
    assert diff_packages(after, before) == tuple(Change(n, new, old) for n, old, new in changes)


def test_names_are_compared_as_indexes_do() -> None:
    assert {normal_name(name) for name in ("oslo.config", "Oslo-Config", "oslo__config", "OSLO-.CONFIG")} == {
        "oslo-config"
    }


def test_a_pin_needs_a_reason() -> None:
    with pytest.raises(ValidationError, match=r"pinned to 1\.0 without a reason"):
        spec(packages=[{"name": "alembic", "version": "1.0", "why": " "}])
    with pytest.raises(ValidationError, match=r"pinned to 2026-11-20 .* without a reason"):
        spec(packages=[{"name": "alembic", "as_of": "2026-11-20T00:00:00Z"}])
    assert spec(packages=[{"name": "alembic"}]).packages[0].requirement() == "alembic"
    wanted = spec(packages=[{"name": "a", "extras": ["x", "y"], "version": "1.0", "why": "z"}]).packages[0]
    assert wanted.requirement() == "a[x,y]==1.0"


def test_a_package_is_named_once() -> None:
    with pytest.raises(ValidationError, match="named more than once: alembic"):
        spec(constraints=[{"name": "alembic", "version": "1.20.0", "why": "x"}])


def test_a_lock_that_is_not_of_the_release_is_refused_with_everything_that_differs() -> None:
    wanted = [{"name": "alembic", "version": "1.0", "why": "x"}, {"name": "nova"}]
    held = [{"name": "oslo-config", "version": "9.0.0", "why": "x"}, {"name": "absent", "version": "1", "why": "x"}]
    wrong = Release(spec(packages=wanted, constraints=held), parse_lock(LOCK), parse_lock(""))
    with pytest.raises(InvalidRequest) as caught:
        check_release(wrong)
    assert caught.value.message == (
        "release 2026.2.1: alembic 1.0 is wanted, the lock has 1.20.1; nova is wanted, the lock has none; "
        "oslo-config 9.0.0 is wanted, the lock has 10.7.0"
    )
    check_release(release("2026.2.1"))


def test_a_bundle_lies_under_its_release_and_its_inputs() -> None:
    manifest = BundleManifest(
        release="2026.2.1",
        image="debian-12",
        python="3.11",
        architecture="x86_64",
        sha256=A,
        size_bytes=1,
        unpacked_bytes=1,
        files=1,
        packages={"nova": "34.0.0"},
        os_packages=("libc6", "libstdc++6"),
        built_at=datetime.now(UTC),
        lock_digest=B,
        inputs_digest=C,
    )
    assert manifest.location == "/opt/levier/releases/2026.2.1-cccccccc"
    assert BundleManifest.model_validate_json(manifest.model_dump_json()) == manifest


def test_the_shipped_releases_are_sound() -> None:
    releases = ReleaseCatalogue(shipped_directory()).all()
    patches: dict[str, list[Release]] = {}
    for each in releases:
        patches.setdefault(each.spec.series, []).append(each)
    assert {series: len(found) >= 2 for series, found in patches.items()} == {"2026.1": True, "2026.2": True}
    for each in releases:
        assert {"keystone", "glance", "openstack-placement", "nova", "neutron", "cinder", "horizon"} <= set(
            each.lock.versions()
        )
        assert len(each.lock.packages) > 200
        assert "://" not in each.lock.text + each.build_lock.text
    for found in patches.values():
        for older, newer in itertools.pairwise(found):
            # A patch level is a patch: with libraries of another day 2026.1's placement did not even start.
            assert 0 < len(diff_packages(older.lock.versions(), newer.lock.versions())) < 15


def _copy(target: Path) -> Path:
    source = shipped_directory() / "2026.2.1"
    (target / source.name).mkdir(parents=True)
    for file in source.iterdir():
        (target / source.name / file.name).write_bytes(file.read_bytes())
    return target / source.name


def test_a_release_that_is_defined_twice_is_refused(tmp_path: Path) -> None:
    _copy(tmp_path)
    with pytest.raises(Conflict, match=r"release 2026\.2\.1 is defined twice") as caught:
        ReleaseCatalogue(shipped_directory(), tmp_path).all()
    assert "another patch level" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("patch: 1", "patch: 0"), r"release\.yaml: patch: Input should be greater than or equal to 1"),
        (("patch: 1", "patch: 7"), "describes 2026.2.7, and lies in a directory of another name"),
        (("images:", "pictures:"), r"release\.yaml: images: Field required"),
        (("summary:", "summary: a\nsummary:"), "the key is already there"),
        (("version: 34.0.0", "version: 34.0.1"), "nova 34.0.1 is wanted, the lock has 34.0.0"),
    ],
)
def test_a_wrong_definition_is_named(tmp_path: Path, change: tuple[str, str], said: str) -> None:
    directory = _copy(tmp_path)
    file = directory / "release.yaml"
    assert change[0] in file.read_text()
    file.write_text(file.read_text().replace(*change, 1))
    with pytest.raises(InvalidRequest, match=said):
        read_release(directory)


def test_a_release_without_its_lock_is_named(tmp_path: Path) -> None:
    directory = _copy(tmp_path)
    (directory / "lock.txt").unlink()
    with pytest.raises(NotFound, match=r"there is no .*/lock\.txt"):
        read_release(directory)
