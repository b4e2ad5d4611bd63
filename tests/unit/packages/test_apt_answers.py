"""What apt and dpkg print, read as data, and their complaints as errors with a way out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drivers.packages import AptLimits, open_packages
from drivers.packages.apt_answers import (
    Sizes,
    parse_free,
    parse_installed,
    parse_offers,
    parse_plan,
    parse_sizes,
    shortage_kib,
)
from drivers.packages.apt_errors import busy_error, fetch_error, resolution_error
from drivers.packages.apt_sources import PROXY, SOURCES, render_sources
from levier.domain.errors import Busy, InvalidRequest, LevierError, MalformedReply, NotFound, Rejected, Unreachable
from levier.domain.package_sources import DebianSources
from levier.domain.packages import InstalledPackages, PackageChange

_SCRIPTS = Path(__file__).parents[3] / "drivers/packages"
_DATABASE = """architecture amd64
interrupted
package installed ok libc6 amd64 2.36-9
package installed ok libc6 i386 2.36-9
package installed ok tzdata all 2024a
package config-files ok nginx amd64 1.22
package half-configured ok mariadb-server amd64 1:10.11
package half-installed reinstreq galera-4 amd64 26.4
package not-installed ok gone amd64{blank}
""".replace("{blank}", " ")


def test_the_package_database_is_read_whole() -> None:
    found = parse_installed(_DATABASE)
    assert found.versions == {"libc6": "2.36-9", "libc6:i386": "2.36-9", "tzdata": "2024a"}
    assert found.unfinished == {"mariadb-server": "half-configured", "galera-4": "half-installed, reinstreq"}
    assert found.residues == {"nginx"}
    assert found.interrupted
    assert not found.whole
    assert "gone" not in found.known
    assert InstalledPackages.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(MalformedReply):
        parse_installed("architecture amd64\n")


def test_a_plan_tells_new_changed_and_removed_packages_apart() -> None:
    plan = parse_plan(
        "Remv exim4-base [4.96-15]\n"
        "Inst perl-base [5.36.0-7+deb12u1] (5.36.0-7+deb12u2 Debian-Security:12/stable-security [amd64]) []\n"
        "Inst memcached (1.6.18-1 Debian:12.5/stable [amd64])\n"
        "Conf memcached (1.6.18-1 Debian:12.5/stable [amd64])\n"
    )
    assert plan.added == {"memcached": "1.6.18-1"}
    assert plan.changed == {"perl-base": ("5.36.0-7+deb12u1", "5.36.0-7+deb12u2")}
    assert plan.removed == {"exim4-base"}
    assert plan.unpacked == ("memcached=1.6.18-1", "perl-base=5.36.0-7+deb12u2")


def test_offers_tell_real_packages_from_virtual_and_unknown_ones() -> None:
    offers = parse_offers(
        "memcached:\n  Installed: (none)\n  Candidate: 1.6.18-1\n  Version table:\n     1.6.18-1 500\n"
        "        500 http://m.example/debian bookworm/main amd64 Packages\n"
        "base:\n  Installed: 1.0\n  Candidate: 1.1\n  Version table:\n     1.1 500\n        500 http://x ./ Packages\n"
        " *** 1.0 100\n        100 /var/lib/dpkg/status\n"
        "default-mta:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n"
    )
    assert (offers["memcached"].candidate, offers["memcached"].versions) == ("1.6.18-1", ("1.6.18-1",))
    assert offers["base"].versions == ("1.1", "1.0")
    assert offers["default-mta"].candidate is None
    assert "nothing" not in offers


def test_space_is_added_up_for_one_file_system_and_for_two() -> None:
    records = "Package a\nVersion 1\nInstalled-Size 1000\nSize 2048\nPackage b\nVersion 2\nInstalled-Size 24\n"
    sizes = parse_sizes(records + "Package b\nVersion 2\nInstalled-Size 24\nSize 1024\n")
    assert sizes == Sizes(archives_kib=6, unpacked_kib=1024)
    free = parse_free("/dev/vda1 1100\n/dev/vda1 1100\n")
    assert shortage_kib(sizes, archives=free[0], system=free[1], reserve_kib=100) == 30
    assert shortage_kib(sizes, archives=("/dev/vdb", 5), system=("/dev/vda", 5000), reserve_kib=100) == 1
    assert shortage_kib(sizes, archives=("/dev/vdb", 6), system=("/dev/vda", 1124), reserve_kib=100) == 0
    with pytest.raises(MalformedReply):
        parse_free("df: no such file")


def test_the_difference_of_two_states() -> None:
    before = InstalledPackages(versions={"a": "1", "b": "1"})
    change = PackageChange.between(before, InstalledPackages(versions={"b": "2", "c": "1"}))
    assert (change.added, change.changed, change.removed) == ({"c": "1"}, {"b": "1"}, {"a": "1"})
    assert PackageChange.between(before, before).unchanged


_URL = "http://user:secret@m.example/debian"


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (f"E: Failed to fetch {_URL}/dists/x/InRelease  Could not connect to m.example:80", Unreachable, "reached"),
        (f"E: Failed to fetch {_URL}/dists/x/InRelease  Temporary failure resolving 'm.example'", Unreachable, ""),
        (f"E: Failed to fetch {_URL}/pool/a.deb  502  Bad Gateway [IP: 10.0.0.1 80]", Unreachable, "reached"),
        (f"E: Failed to fetch {_URL}/pool/a.deb  404  Not Found [IP: 10.0.0.1 80]", Rejected, "does not have"),
        (f"E: The repository '{_URL} x Release' does not have a Release file.", Rejected, "does not have"),
        (f"E: The repository '{_URL} x InRelease' is not signed.", Rejected, "signature"),
        (f"E: Release file for {_URL}/dists/x/InRelease is expired (invalid since 5d)", Rejected, "expired"),
        (f"E: Failed to fetch {_URL}/dists/x/main/Packages.xz  Hash Sum mismatch", Busy, "updated"),
        ("E: You don't have enough free space in /var/cache/apt/archives/.", Rejected, "no space left"),
        ("E: something new", Rejected, "something new"),
    ],
)
def test_a_failed_fetch_names_host_mirror_and_way_out(said: str, kind: type[LevierError], words: str) -> None:
    error = fetch_error("a1-01", f"Hit:1 http://other.example x\n{said}\n", mirrors="http://m.example/debian")
    assert type(error) is kind
    assert error.message.startswith("a1-01: ")
    assert words in error.message
    assert "no space" in words or "http://m.example/debian" in error.message
    assert "secret" not in error.message
    assert error.hint


def test_other_complaints_of_apt() -> None:
    unknown = "E: Unable to locate package a\nE: Package 'b' has no installation candidate\n"
    error = resolution_error("a1-01", unknown, mirrors="http://m.example/debian")
    assert isinstance(error, NotFound)
    assert error.message.endswith("does not offer a, b")
    assert "held broken" in resolution_error("a1-01", "E: you have held broken packages.", mirrors="").message
    lock = "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 77 (apt-get)\nE: Unable to"
    assert "held by process 77 (apt-get)" in busy_error("a1-01", lock).message


def test_sources_of_a_release() -> None:
    files = render_sources(
        DebianSources(
            mirror="http://m.example/debian/",
            security_mirror="http://m.example/debian-security",
            components=("main", "contrib"),
            check_valid_until=False,
            proxy="http://p.example:3128",
        ),
        "bookworm",
    )
    assert files[SOURCES] == (
        "# Written by Levier, from `site.packages.debian` of the site file. The image's own sources are in "
        "/etc/levier/apt-sources.\n"
        "Types: deb\nURIs: http://m.example/debian\nSuites: bookworm bookworm-updates\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n\n"
        "Types: deb\nURIs: http://m.example/debian-security\nSuites: bookworm-security\nComponents: main contrib\n"
        "Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\nCheck-Valid-Until: no\n"
    )
    assert 'Acquire::https::Proxy "http://p.example:3128";' in files[PROXY]
    assert list(render_sources(DebianSources(proxy="http://p.example:3128"), "trixie")) == [PROXY]


def test_limits_are_positive() -> None:
    with pytest.raises(InvalidRequest):
        AptLimits(lock_s=0)


def test_a_distribution_without_a_driver_is_named() -> None:
    with pytest.raises(LevierError, match="a1-01: packages of rocky"):
        open_packages(None, name="a1-01", os_id="rocky")  # type: ignore[arg-type]


@pytest.mark.parametrize("script", sorted(path.name for path in _SCRIPTS.glob("*.sh")))
def test_the_scripts_are_clean(script: str) -> None:
    # Variables are set by whoever sends the script; apt's own $(…) are not the shell's.
    command = ["shellcheck", "-s", "sh", "-e", "SC2154,SC2016,SC1091", str(_SCRIPTS / script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout
