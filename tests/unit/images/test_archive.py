"""The archive this machine uses, read from what apt says."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import pytest

from drivers.artifacts import archive
from drivers.artifacts.archive import Archive, ArchiveEntry, discover_archive, parse_keyrings, parse_uris
from levier.domain.errors import InvalidRequest

LISTING = """\
'http://mirror.example/debian/dists/bookworm/InRelease' mirror.example_debian_dists_bookworm_InRelease 0
'http://mirror.example/debian/dists/bookworm-updates/InRelease' mirror.example_debian_dists_bookworm-updates_InRelease 0
'http://mirror.example/debian/dists/bookworm/main/binary-amd64/Packages.xz' mirror.example_main_Packages 0
'http://mirror.example/debian/dists/bookworm/main/binary-all/Packages.xz' mirror.example_all_Packages 0
'http://mirror.example/debian/dists/bookworm/main/i18n/Translation-en.xz' mirror.example_en 0
'http://mirror.example/debian/dists/bookworm/contrib/binary-amd64/Packages.xz' mirror.example_contrib_Packages 0
'http://mirror.example/debian/dists/bookworm-updates/main/binary-amd64/Packages.xz' mirror.example_updates_Packages 0
'http://mirror.example/debian-security/dists/bookworm-security/main/binary-amd64/Packages.xz' security_Packages 0
'http://other.example/node/dists/nodistro/main/binary-amd64/Packages.xz' other.example_Packages 0
"""
SOURCES = (
    "deb http://mirror.example/debian bookworm main contrib\n",
    "Types: deb\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nSigned-By: /k.gpg\n",
)


def test_only_the_distribution_counts_and_other_suites_follow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(archive, "_ARCHIVE_KEYRING", tmp_path / "none.gpg")
    found = parse_uris(LISTING, "bookworm", SOURCES)
    assert found == Archive(
        (
            ArchiveEntry("http://mirror.example/debian", "", ("main",)),
            ArchiveEntry("http://mirror.example/debian", "-updates", ("main",)),
            ArchiveEntry("http://mirror.example/debian-security", "-security", ("main",), ("/k.gpg",)),
        )
    )
    assert found.sources_list("trixie") == (
        "deb http://mirror.example/debian trixie main\n"
        "deb http://mirror.example/debian trixie-updates main\n"
        "deb [signed-by=/k.gpg] http://mirror.example/debian-security trixie-security main\n"
    )


def test_sources_without_the_release_are_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidRequest, match="no source for the suite bookworm") as caught:
        parse_uris("'http://other.example/dists/stable/main/binary-amd64/Packages.xz' x 0 ", "bookworm", SOURCES)
    assert caught.value.hint


@pytest.mark.root
def test_what_this_machine_never_fetched_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine just made: the lists of updates and security updates come later, what hosts get does not."""
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    (tmp_path / "apt.conf").write_text(f'Dir::State::Lists "{tmp_path}/lists";\n')
    (tmp_path / "lists" / "partial").mkdir(parents=True)
    suffixes = {entry.suffix for entry in discover_archive().entries}
    named = subprocess.run(["apt-get", "update", "--print-uris"], capture_output=True, text=True, check=True).stdout
    codename = platform.freedesktop_os_release()["VERSION_CODENAME"]
    assert suffixes == {each for each in ("", "-updates", "-security") if f"/{codename}{each}/InRelease" in named}


def test_key_rings_of_both_formats() -> None:
    assert parse_keyrings("Types: deb\nSigned-By: /a.gpg /b.gpg\n") == ("/a.gpg", "/b.gpg")
    assert parse_keyrings(
        "deb [arch=amd64 signed-by=/c.gpg] http://x y main\n#deb [signed-by=/d.gpg] http://x y main"
    ) == ("/c.gpg",)
    # A key inside the file itself cannot be named by a path; apt's trusted keys serve then.
    assert parse_keyrings("Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n") == ()
