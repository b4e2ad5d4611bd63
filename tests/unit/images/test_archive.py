"""The archive this machine uses, read from what apt says."""

from __future__ import annotations

import pytest

from drivers.artifacts.archive import Archive, ArchiveEntry, parse_keyrings, parse_targets
from levier.domain.errors import InvalidRequest

LISTING = """\
http://mirror.example/debian/|bookworm|main|/etc/apt/sources.list.d/debian.sources:1
http://mirror.example/debian/|bookworm|contrib|/etc/apt/sources.list.d/debian.sources:1
http://mirror.example/debian/|bookworm-updates|main|/etc/apt/sources.list.d/debian.sources:1
http://mirror.example/debian-security/|bookworm-security|main|/etc/apt/sources.list:3
http://other.example/node|nodistro|main|/etc/apt/sources.list.d/node.list:1
"""


def test_only_the_distribution_counts_and_other_suites_follow() -> None:
    archive = parse_targets(LISTING, "bookworm", {"/etc/apt/sources.list": ("/k.gpg",)})
    assert archive == Archive(
        (
            ArchiveEntry("http://mirror.example/debian", "", ("main",)),
            ArchiveEntry("http://mirror.example/debian", "-updates", ("main",)),
            ArchiveEntry("http://mirror.example/debian-security", "-security", ("main",), ("/k.gpg",)),
        )
    )
    assert archive.sources_list("trixie") == (
        "deb http://mirror.example/debian trixie main\n"
        "deb http://mirror.example/debian trixie-updates main\n"
        "deb [signed-by=/k.gpg] http://mirror.example/debian-security trixie-security main\n"
    )


def test_sources_without_the_release_are_refused_with_a_way_out() -> None:
    with pytest.raises(InvalidRequest, match="no source for the suite bookworm") as caught:
        parse_targets("http://other.example/|stable|main|/etc/apt/sources.list:1", "bookworm", {})
    assert caught.value.hint


def test_key_rings_of_both_formats() -> None:
    assert parse_keyrings("Types: deb\nSigned-By: /a.gpg /b.gpg\n") == ("/a.gpg", "/b.gpg")
    assert parse_keyrings(
        "deb [arch=amd64 signed-by=/c.gpg] http://x y main\n#deb [signed-by=/d.gpg] http://x y main"
    ) == ("/c.gpg",)
    # A key inside the file itself cannot be named by a path; apt's trusted keys serve then.
    assert parse_keyrings("Signed-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n") == ()
