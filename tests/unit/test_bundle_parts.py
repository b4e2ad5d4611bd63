"""Parts of the bundle builder that need no root: where packages come from, what a root says of itself, archives."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from drivers.bundle.catalog import bundle_file, find_bundle, list_bundles, remove_bundles, verify_bundle
from drivers.bundle.index import index_environment
from drivers.bundle.packing import measure, pack
from drivers.bundle.root import BuildRoot, RootRecord, root_recipe
from levier.domain.errors import MalformedReply, NotFound, Rejected
from levier.domain.release import BundleManifest


def pip_conf(home: Path, text: str) -> Path:
    file = home / ".config/pip/pip.conf"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return home


def test_what_pip_is_configured_with_serves_uv(tmp_path: Path) -> None:
    home = pip_conf(
        tmp_path,
        "[global]\nindex-url = https://user:secret@mirror.example/simple\nextra-index-url =\n  https://one.example/s\n"
        "  https://two.example/s\ncert = /etc/ca.pem\n[install]\ntrusted-host = mirror.example\n",
    )
    found = index_environment({"PIP_CONFIG_FILE": os.devnull, "HOME": "/nowhere"}, home=home)
    assert found == {
        "UV_DEFAULT_INDEX": "https://user:secret@mirror.example/simple",
        "UV_INDEX": "https://one.example/s https://two.example/s",
        "UV_INSECURE_HOST": "mirror.example",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def test_variables_come_before_files_and_uvs_own_before_pips(tmp_path: Path) -> None:
    home = pip_conf(tmp_path, "[global]\nindex-url = https://file.example/simple\ncert = /etc/ca.pem\n")
    by_pip = index_environment({"PIP_INDEX_URL": "https://variable.example/simple"}, home=home)
    assert by_pip["UV_DEFAULT_INDEX"] == "https://variable.example/simple"
    own = {"UV_INDEX_URL": "https://uv.example/simple", "https_proxy": "http://proxy.example:3128", "SECRET": "no"}
    by_uv = index_environment({**own, "PIP_INDEX_URL": "https://variable.example/simple"}, home=home)
    assert by_uv == {
        "UV_INDEX_URL": "https://uv.example/simple",
        "https_proxy": "http://proxy.example:3128",
        "SSL_CERT_FILE": "/etc/ca.pem",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
    }


def build_root(**packages: str) -> BuildRoot:
    recipe = root_recipe("debian-12")
    record = RootRecord(image="debian-12", recipe_digest="x", packages=packages, built_at=datetime.now(UTC))
    return BuildRoot(recipe, record, "digest", Path("/nowhere"))


def test_a_root_says_its_python_and_its_c_library() -> None:
    twelve = build_root(
        **{"python3": "3.11.2-1+b1", "python3.11": "3.11.2-6", "python3.11-dev": "1", "libc6": "2.36-9+deb12u10"}
    )
    assert (twelve.python, twelve.platform) == ("3.11", f"{os.uname().machine}-manylinux_2_36")
    newer = build_root(**{"python3.9": "1", "python3.13": "1", "libc6": "2.41-12"})
    assert (newer.python, newer.platform) == ("3.13", f"{os.uname().machine}-manylinux_2_40")
    with pytest.raises(MalformedReply, match="have no Python 3"):
        _ = build_root(libc6="2.36").python


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    for name, order in (("one", ("a", "b", "lib/c")), ("two", ("lib/c", "b", "a"))):
        for file in order:
            path = tmp_path / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"content of {file}")
            os.utime(path, (len(name) * 1e8, len(file) * 1e8))
        (tmp_path / name / "link").symlink_to("lib")
        (tmp_path / name / "a").chmod(0o755 if name == "one" else 0o775)
        pack(tmp_path / name, tmp_path / f"{name}.tar.zst")
    assert (tmp_path / "one.tar.zst").read_bytes() == (tmp_path / "two.tar.zst").read_bytes()
    listing = subprocess.run(
        ["tar", "--zstd", "-tvf", tmp_path / "one.tar.zst"], capture_output=True, text=True, check=True
    ).stdout
    assert listing.splitlines()[1].split()[:2] == ["-rwxr-xr-x", "root/root"]


def test_what_unpacking_takes_is_measured_in_blocks(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/a").write_bytes(b"x" * 4097)
    os.link(tmp_path / "lib/a", tmp_path / "lib/again")
    (tmp_path / "lib64").symlink_to("lib")
    extent = measure(tmp_path)
    assert extent.files == 3
    assert extent.bytes == 4096 * (2 + 2 + 1)


def shelve(cache: Path, release: str, image: str, content: bytes) -> BundleManifest:
    manifest = BundleManifest(
        release=release,
        image=image,
        python="3.11",
        architecture="x86_64",
        sha256=hashlib.sha256(content).hexdigest(),
        size_bytes=len(content),
        unpacked_bytes=1,
        files=1,
        packages={},
        os_packages=(),
        built_at=datetime.now(UTC),
        lock_digest="0" * 64,
        inputs_digest="1" * 64,
    )
    directory = cache / f"{release}+{image}" / ("1" * 64)
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(manifest.model_dump_json())
    (directory / "bundle.tar.zst").write_bytes(content)
    return manifest


def test_bundles_are_found_by_release_and_by_digest_and_removed(tmp_path: Path) -> None:
    one = shelve(tmp_path, "2026.2.1", "debian-12", b"one")
    two = shelve(tmp_path, "2026.2.1", "debian-13", b"two")
    shelve(tmp_path, "2026.2.2", "debian-12", b"three")
    assert [b.manifest.release for b in list_bundles(tmp_path)] == ["2026.2.1", "2026.2.1", "2026.2.2"]
    assert find_bundle(tmp_path, "2026.2.1", "debian-13").manifest == two
    found = bundle_file(tmp_path, one.sha256)
    assert found is not None
    assert found.read_bytes() == b"one"
    assert bundle_file(tmp_path, "../../etc/passwd") is None
    assert [b.manifest for b in remove_bundles(tmp_path, "2026.2.1", "debian-12")] == [one]
    with pytest.raises(NotFound, match=r"no bundle of release 2026\.2\.1 for debian-12"):
        remove_bundles(tmp_path, "2026.2.1", "debian-12")
    with pytest.raises(NotFound) as caught:
        find_bundle(tmp_path, "2026.2.1", "debian-12")
    assert caught.value.hint == "levier release build 2026.2.1 --image debian-12"
    assert len(list_bundles(tmp_path)) == 2


def test_a_damaged_bundle_is_noticed(tmp_path: Path) -> None:
    shelve(tmp_path, "2026.2.1", "debian-12", b"one")
    directory = tmp_path / "2026.2.1+debian-12" / ("1" * 64)
    assert verify_bundle(directory).path.read_bytes() == b"one"
    (directory / "bundle.tar.zst").write_bytes(b"0ne")
    with pytest.raises(Rejected, match="has 3 bytes and SHA-256") as caught:
        verify_bundle(directory)
    assert "levier release build 2026.2.1 --image debian-12" in caught.value.hint
    (directory / "manifest.json").write_text("{}")
    with pytest.raises(MalformedReply, match="is no bundle manifest"):
        list_bundles(tmp_path)
