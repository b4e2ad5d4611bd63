"""Bundles built with the real tools from the real package index, in a real Debian 12."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from drivers.bundle import Bundle, build_bundle
from drivers.bundle.wheelhouse import RemoteFile, Target, fetch, locate
from levier.domain.errors import InvalidRequest, NotFound, Rejected, Unreachable
from levier.domain.release import parse_lock
from tests.integration.test_image_build import programs_naming, wait_until
from tests.rig.release_cache import DEFINITIONS, release_cache, small_release

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

BUILD = (
    "import sys, pathlib\n"
    "from drivers.bundle import build_bundle\n"
    "from levier.services.release_catalogue import read_release\n"
    "release = read_release(pathlib.Path(sys.argv[2]))\n"
    "bundle = build_bundle(release, 'debian-12', pathlib.Path(sys.argv[1]), lambda line: print(line, flush=True))\n"
    "print('NOTE', bundle.note, bundle.manifest.sha256)\n"
)


@pytest.fixture(scope="module")
def content(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("content")
    subprocess.run(["tar", "--extract", "--zstd", "--file", bundle.path, "--directory", directory], check=True)
    return directory


def build_in(cache: Path, *prefix: str) -> subprocess.Popen[str]:
    """A build of the small release, in a process of its own."""
    command = [*prefix, sys.executable, "-c", BUILD, str(cache), str(DEFINITIONS / "1999.1.1")]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def cache_with_root(directory: Path) -> Path:
    """A cache of its own that has the build root and the package files already."""
    for name in ("root-debian-12", "files"):
        shutil.copytree(release_cache() / name, directory / name, copy_function=os.link)
    return directory


def test_the_manifest_tells_what_is_in_the_bundle(bundle: Bundle, content: Path) -> None:
    manifest = bundle.manifest
    assert manifest.packages == small_release().lock.versions()
    assert (manifest.release, manifest.image, manifest.python) == ("1999.1.1", "debian-12", "3.11")
    assert manifest.size_bytes == bundle.path.stat().st_size
    assert manifest.location == f"/opt/levier/releases/1999.1.1-{manifest.inputs_digest[:8]}"
    found = [path for path in content.rglob("*") if not path.is_dir() or path.is_symlink()]
    assert manifest.files == len(found)
    assert {"libc6", "python3.11"} <= set(manifest.os_packages)
    installed = {path.name.split("-")[0].lower() for path in content.rglob("*.dist-info")}
    assert installed == set(manifest.packages)


def test_every_entry_is_as_on_any_other_build(bundle: Bundle) -> None:
    plain = subprocess.run(["zstd", "-dc", bundle.path], capture_output=True, check=True).stdout
    archive = bundle.path.with_name("test.tar")
    archive.write_bytes(plain)
    try:
        with tarfile.open(archive) as tar:
            members = tar.getmembers()
    finally:
        archive.unlink()
    assert {(m.uid, m.gid, m.mtime, m.mode & 0o022 if not m.issym() else 0) for m in members} == {(0, 0, 315532800, 0)}
    names = [member.name.split("/") for member in members]
    assert names == sorted(names)


def test_modules_have_byte_code_that_needs_no_look_at_the_source(content: Path) -> None:
    (module,) = content.rglob("tabulate/__init__.py")
    (code,) = (module.parent / "__pycache__").glob("__init__.*.pyc")
    assert int.from_bytes(code.read_bytes()[4:8], "little") == 0b01  # PEP 552: hash-based, not checked


def test_c_code_was_compiled_for_this_root(content: Path) -> None:
    (library,) = content.rglob("markupsafe/_speedups*.so")
    assert library.read_bytes()[:4] == b"\x7fELF"


def test_nothing_of_the_build_is_left_in_it(content: Path) -> None:
    assert {path.name for path in content.iterdir()} == {"bin", "lib", "lib64", "pyvenv.cfg"}
    texts = [p for p in content.rglob("*") if p.is_file() and p.suffix in ("", ".cfg", ".txt", ".json")]
    assert [p for p in texts if str(release_cache()) in p.read_text(errors="replace")] == []


def test_a_second_build_finds_the_first(bundle: Bundle) -> None:
    before, lines = bundle.path.stat().st_ino, list[str]()
    again = build_bundle(small_release(), "debian-12", release_cache(), lines.append)
    assert (again.manifest, again.path.stat().st_ino, again.note) == (bundle.manifest, before, "")
    assert lines[-1] == "1999.1.1 for debian-12: up to date"


def test_what_is_no_request_is_refused_before_anything_is_touched(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no recipe for an image 'debian-99'"):
        build_bundle(small_release(), "debian-99", tmp_path / "cache", print)
    with pytest.raises(InvalidRequest, match=r"1999\.1\.1 is not for debian-13") as refused:
        build_bundle(small_release(), "debian-13", tmp_path / "cache", print)
    assert refused.value.hint == "it is for: debian-12"
    assert not (tmp_path / "cache").exists()


def test_an_interrupted_build_leaves_nothing_and_the_next_gives_the_same_bytes(bundle: Bundle, tmp_path: Path) -> None:
    cache = cache_with_root(tmp_path)
    process = build_in(cache)
    try:
        assert process.stdout is not None
        while "installing 3 packages" not in (line := process.stdout.readline()):
            assert line, process.stderr.read() if process.stderr else ""
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        assert process.returncode != 0
    finally:
        process.kill()
        process.communicate()
    wait_until(lambda: not programs_naming(cache), "the build's programs to end")
    assert str(cache) not in Path("/proc/self/mounts").read_text()
    assert [path.name for path in (cache / "1999.1.1+debian-12").iterdir()] == [".lock"]
    assert [path.name for path in (cache / "files").iterdir() if path.name.startswith(".")] == []
    earlier = os.umask(0o077)  # as Levier's service builds, which keeps its own files to itself
    try:
        again = build_bundle(small_release(), "debian-12", cache, print)
    finally:
        os.umask(earlier)
    assert again.manifest.sha256 == bundle.manifest.sha256
    assert again.manifest.identity == bundle.manifest.identity


def test_without_a_network_an_earlier_bundle_is_kept_and_says_so(bundle: Bundle) -> None:
    output, errors = build_in(release_cache(), "unshare", "--net").communicate(timeout=120)
    assert "up to date" in output, errors
    assert "the package archive could not be asked for updates" in output
    assert bundle.manifest.sha256 in output


def test_without_an_index_the_cause_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:1/simple")
    with pytest.raises(Unreachable, match="the package index cannot be reached"):
        locate(small_release().lock, Target("3.11", "x86_64-manylinux_2_36"), tmp_path)


def test_a_file_with_another_digest_is_never_taken(tmp_path: Path) -> None:
    lock = small_release().lock
    digest = next(iter(next(p for p in lock.packages if p.name == "simplegeneric").sha256s))
    other = parse_lock(lock.text.replace(digest, "0" * 64))
    with pytest.raises(Rejected, match=r"no file with a digest of the lock .*: simplegeneric 0\.8\.1"):
        locate(other, Target("3.11", "x86_64-manylinux_2_36"), tmp_path)


def test_a_file_that_an_index_serves_changed_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "thing-1.0.tar.gz"
    source.write_bytes(b"not what was locked")
    file = RemoteFile(source.name, source.as_uri(), "0" * 64, source.stat().st_size)
    with pytest.raises(Rejected, match=r"thing-1\.0\.tar\.gz has SHA-256 [0-9a-f]{64}, the lock has 0{64}"):
        fetch([file], tmp_path / "store", print)
    assert list((tmp_path / "store").iterdir()) == []
