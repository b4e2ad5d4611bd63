"""What every package manager must do, on running hosts: apt on Debian 12 and 13, with an archive made for it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from drivers.packages import AptLimits, AptPackages
from drivers.ssh import open_host
from levier.domain.errors import Busy, InvalidRequest, NotFound, OutcomeUnknown, Rejected, Unreachable
from levier.domain.package_sources import DebianSources, PackageSources
from levier.domain.packages import InstalledPackages, PackageManager
from levier.domain.ssh import RemoteHost
from tests.lab.provisioning import wait_until
from tests.rig.container import Container
from tests.rig.package_archive import URL, build_archive, served

pytestmark = pytest.mark.root

on_one_host = pytest.mark.parametrize("machine", ["apt on debian-12"], indirect=True)
"""For what depends on the implementation and not on the release of the distribution: every second counts."""
_NAME = "a1-01"
_ASIDE = "/etc/apt/sources-of-the-image"
_OWN = "/etc/apt/sources.list.d/levier-test.sources"


@dataclass
class Rig:
    """A host whose only package source is the archive of the test, and what a test may do to it."""

    host: RemoteHost
    container: Container
    archive: Path
    packages: PackageManager

    def impatient(self, **limits: float) -> PackageManager:
        return AptPackages(self.host, name=_NAME, limits=AptLimits(**limits))  # type: ignore[arg-type]

    def offer(self, collection: str) -> None:
        """`release`, `all`: with a newer version of one package, or `new`: without its earlier one."""
        text = f"Types: deb\nURIs: {URL}/{collection}/\nSuites: ./\nTrusted: yes\n"
        self.host.upload(text.encode(), _OWN)

    def listing(self) -> str:
        """Everything dpkg knows, removed packages that left something included."""
        automatic = "awk '/^Package:/ { name = $2 } /^Auto-Installed: 1/ { print name }' /var/lib/apt/extended_states"
        looks = ("dpkg -l | tail -n +6", f"{automatic} | sort", "ls -A /etc/levier /usr/sbin/policy-rc.d 2>&1", "true")
        return self.host.run("; ".join(looks)).stdout

    def active(self, service: str) -> bool:
        return self.host.run(f"systemctl is-active {service}", check=False).stdout.strip() == "active"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("packages") / "archive"
    build_archive(directory)
    return directory


@pytest.fixture(scope="module", params=["apt on debian-12", "apt on debian-13"])
def machine(request: pytest.FixtureRequest, archive: Path) -> Iterator[Rig]:
    container = request.getfixturevalue(request.param.removeprefix("apt on ").replace("-", "_"))
    host = open_host(container.target())
    host.run("echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/levier-test")
    host.run(f"mkdir {_ASIDE} && mv /etc/apt/sources.list /etc/apt/sources.list.d/* {_ASIDE}/ 2>/dev/null; true")
    yield Rig(host, container, archive, AptPackages(host, name=_NAME))
    host.run(
        f"cd {_ASIDE} && rm -f {_OWN} && for f in *; do [ $f = sources.list ] && mv $f .. || mv $f ../sources.list.d/; "
        f"done 2>/dev/null; rmdir {_ASIDE}"
    )
    host.run("rm /etc/dpkg/dpkg.cfg.d/levier-test")
    host.close()


@pytest.fixture
def rig(machine: Rig) -> Iterator[Rig]:
    """Every test leaves the host's packages as they were: the undo is part of each."""
    machine.offer("release")
    before, listing = machine.packages.installed(), machine.listing()
    yield machine
    machine.packages.restore(InstalledPackages.model_validate_json(before.model_dump_json()))
    assert machine.listing() == listing


@pytest.fixture
def asked(rig: Rig) -> Iterator[list[str]]:
    """The archive is reachable; what was asked of it."""
    with served(rig.archive, rig.container.name) as requests:
        yield requests


def test_a_package_comes_with_what_it_depends_on_and_a_second_time_nothing_is_asked(rig: Rig, asked: list[str]) -> None:
    change = rig.packages.ensure_installed(["lvt-tool"])
    assert change.added == {"lvt-tool": "1.0", "lvt-base": "1.0"}
    assert not change.changed
    assert not change.removed
    assert rig.packages.installed().has("lvt-tool")
    assert rig.host.run("cat /etc/lvt/tool.conf").stdout == "colour=red\n"
    asked.clear()
    assert rig.packages.ensure_installed(["lvt-tool", "lvt-base"]).unchanged
    assert asked == []


def test_the_undo_purges_exactly_what_was_not_there(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-base"])
    before = rig.packages.installed()
    rig.packages.ensure_installed(["lvt-tool", "lvt-old"])
    rig.host.run("echo colour=blue > /etc/lvt/tool.conf")
    undone = rig.packages.restore(before)
    assert undone.removed == {"lvt-tool": "1.0", "lvt-old": "2.0"}
    assert rig.host.run("ls /etc/lvt", check=False).exit_status
    assert rig.packages.installed() == before
    assert rig.packages.restore(before).unchanged


@on_one_host
def test_configuration_files_left_by_a_removal_before_stay(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-tool"])
    rig.host.run("dpkg --remove lvt-tool")
    before = rig.packages.installed()
    assert before.residues >= {"lvt-tool"}
    rig.packages.ensure_installed(["lvt-tool"])
    rig.packages.restore(before)
    assert rig.packages.installed() == before
    assert rig.host.run("cat /etc/lvt/tool.conf").stdout == "colour=red\n"


def test_a_new_service_is_not_started_and_one_that_runs_goes_on(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-service"], versions={"lvt-service": "1.0"})
    assert not rig.active("lvt-service")
    rig.host.run("systemctl start lvt-service")
    before = rig.packages.installed()
    change = rig.packages.ensure_installed(["lvt-service"], versions={"lvt-service": "1.1"})
    assert change.changed == {"lvt-service": "1.0"}
    assert rig.active("lvt-service")
    rig.packages.restore(before)
    assert rig.packages.installed().versions["lvt-service"] == "1.0"


def test_outside_of_the_work_services_start_as_ever(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-base"])
    assert rig.host.run("ls /usr/sbin/policy-rc.d", check=False).exit_status
    rig.host.run("apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq install lvt-service=1.0 > /dev/null")
    assert rig.active("lvt-service")


@on_one_host
def test_unknown_names_are_all_named_and_nothing_is_touched(rig: Rig, asked: list[str]) -> None:
    with pytest.raises(NotFound, match=rf"a1-01.*{URL}.*lvt-nothing, lvt\.no, lvt-old in version 7 \(but 2\.0\)"):
        rig.packages.ensure_installed(["lvt-base", "lvt-nothing", "lvt.no", "lvt-old"], versions={"lvt-old": "7"})
    with pytest.raises(InvalidRequest):
        rig.packages.ensure_installed(["lvt-base/oldstable"])
    with pytest.raises(InvalidRequest):
        rig.packages.ensure_installed(["--force"])
    assert not rig.packages.installed().has("lvt-base")


@on_one_host
def test_what_cannot_be_is_refused_before_anything_is_touched(rig: Rig, asked: list[str]) -> None:
    before = rig.packages.installed()
    with pytest.raises(Rejected, match="lvt-nowhere"):
        rig.packages.ensure_installed(["lvt-impossible"])
    with pytest.raises(Rejected, match=r"a1-01: 1 packages need .* MiB are missing"):
        rig.packages.ensure_installed(["lvt-huge"])
    assert rig.packages.installed() == before


def test_installed_packages_change_only_if_they_may(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-base"])
    before = rig.packages.installed()
    with pytest.raises(Rejected, match="lvt-base would have to be removed"):
        rig.packages.ensure_installed(["lvt-rival"])
    rig.offer("all")
    with pytest.raises(Rejected, match=r"lvt-base 1\.0 → 1\.1"):
        rig.packages.ensure_installed(["lvt-newer"])
    assert rig.packages.installed() == before
    change = rig.packages.ensure_installed(["lvt-newer"], may_change=True)
    assert (change.added, change.changed) == ({"lvt-newer": "1.0"}, {"lvt-base": "1.0"})
    rig.packages.restore(before)
    assert rig.packages.installed() == before


@on_one_host
def test_a_version_that_is_no_longer_offered_is_told_or_stays(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-base"])
    before = rig.packages.installed()
    rig.offer("new")
    rig.packages.ensure_installed(["lvt-newer"], may_change=True)
    with pytest.raises(Rejected, match=rf"a1-01: .*{URL}.* no longer offers lvt-base 1\.0"):
        rig.packages.restore(before)
    assert not rig.packages.installed().has("lvt-newer"), "all else is done"
    assert rig.packages.restore(before, may_stay_newer=True).unchanged
    assert rig.packages.installed().has("lvt-base", "1.1")


def test_a_mirror_that_cannot_be_reached_is_told_and_can_be_retried(rig: Rig) -> None:
    with pytest.raises(Unreachable, match=rf"a1-01: the package mirror {URL}") as caught:
        rig.packages.ensure_installed(["lvt-tool"])
    assert "site.packages" in caught.value.hint
    with served(rig.archive, rig.container.name):
        rig.packages.refresh()
        assert rig.packages.ensure_installed(["lvt-tool"]).added


@on_one_host
def test_a_mirror_without_this_release_is_told(rig: Rig, asked: list[str]) -> None:
    rig.offer("nowhere")
    with pytest.raises(Rejected, match=rf"{URL}/nowhere.* does not have"):
        rig.packages.refresh()


@on_one_host
def test_removing_takes_nothing_else_along(rig: Rig, asked: list[str]) -> None:
    rig.packages.ensure_installed(["lvt-tool"])
    before = rig.packages.installed()
    with pytest.raises(Rejected, match="lvt-tool would be removed too"):
        rig.packages.ensure_removed(["lvt-base"])
    change = rig.packages.ensure_removed(["lvt-base", "lvt-tool", "lvt-unknown"])
    assert change.removed == {"lvt-tool": "1.0", "lvt-base": "1.0"}
    assert rig.packages.ensure_removed(["lvt-tool"]).unchanged
    assert rig.packages.restore(before).added == change.removed


@on_one_host
def test_a_failing_package_is_told_with_its_own_words_and_undone(rig: Rig, asked: list[str]) -> None:
    before = rig.packages.installed()
    with pytest.raises(Rejected, match="the cake is a lie"):
        rig.packages.ensure_installed(["lvt-failing"])
    assert not rig.packages.installed().whole
    rig.packages.restore(before)
    assert rig.packages.installed() == before


def _waits(rig: Rig) -> bool:
    return not rig.host.run("test -e /run/lvt-waits", check=False).exit_status


def _lose_the_worker(rig: Rig, package: str, *, when: Callable[[], bool], what: str) -> None:
    """A worker that installed the package has lost its connection at that moment; its unit is still at work."""
    other = open_host(rig.container.target())
    ended: list[type[BaseException]] = []

    def install() -> None:
        try:
            AptPackages(other, name=_NAME).ensure_installed([package])
        except OutcomeUnknown as error:
            ended.append(type(error))

    worker = threading.Thread(target=install)
    worker.start()
    wait_until(when, what=what)
    other.close()
    worker.join()
    assert ended == [OutcomeUnknown]


@pytest.fixture
def slow(rig: Rig, asked: list[str]) -> Iterator[Rig]:
    """`lvt-slow` is being installed by a worker that has lost its connection; it waits until /run/lvt-go is there."""
    _lose_the_worker(rig, "lvt-slow", when=lambda: _waits(rig), what="lvt-slow in its script")
    yield rig
    rig.host.run("rm -f /run/lvt-waits /run/lvt-go")


def test_a_run_that_lost_its_worker_goes_on_and_is_waited_for(slow: Rig, asked: list[str]) -> None:
    with pytest.raises(Busy, match="a1-01: something else works on the packages"):
        slow.impatient(lock_s=1).ensure_installed(["lvt-slow"])
    slow.host.run("touch /run/lvt-go")
    slow.packages.ensure_installed(["lvt-slow"])
    assert slow.packages.installed().has("lvt-slow")
    assert len([path for path in asked if "lvt-slow" in path]) == 1


def test_an_undo_waits_for_a_run_that_lost_its_worker_before_anything_was_unpacked(rig: Rig) -> None:
    before, packages = rig.packages.installed(), threading.Event()
    rig.host.run("apt-get clean")  # of what an earlier test has fetched
    with served(rig.archive, rig.container.name, packages=packages) as asked, ThreadPoolExecutor() as threads:
        _lose_the_worker(rig, "lvt-tool", when=lambda: any("/pool/" in path for path in asked), what="a fetch")
        with pytest.raises(Busy, match=r"a1-01: .*has not ended"):
            rig.impatient(lock_s=1, work_s=1).restore(before)
        with pytest.raises(Busy, match=r"a1-01: .*has not ended"):
            rig.impatient(lock_s=1).ensure_removed(["lvt-tool"])
        undone = threads.submit(rig.packages.restore, before)
        packages.set()
        assert undone.result().removed == {"lvt-tool": "1.0", "lvt-base": "1.0"}
    assert rig.packages.installed() == before


@pytest.mark.parametrize("then", ["completed", "undone"])
def test_a_killed_run_leaves_nothing_in_the_way(slow: Rig, then: str) -> None:
    processes = "find /sys/fs/cgroup -path '*/levier-packages.service/cgroup.procs' -exec cat {} +"
    slow.host.run(f"{processes} | xargs kill -KILL", check=False)
    wait_until(lambda: slow.host.run("ls /usr/sbin/policy-rc.d", check=False).exit_status, what="the policy's end")
    slow.host.run("touch /run/lvt-go")
    assert "lvt-slow" in slow.packages.installed().unfinished
    if then == "completed":
        slow.packages.ensure_installed(["lvt-slow"])
        assert slow.packages.installed().whole
    # … and the fixture of every test undoes it.


def test_another_program_with_the_lock_is_waited_for(rig: Rig, asked: list[str]) -> None:
    rig.packages.refresh()
    rig.host.run("systemd-run --quiet --collect --unit=lvt-operator apt-get -q -y install lvt-slow")
    wait_until(lambda: _waits(rig), what="lvt-slow in its script")
    with pytest.raises(Busy, match="lock"):
        rig.impatient(lock_s=1).ensure_installed(["lvt-old"])
    rig.host.run("touch /run/lvt-go")
    rig.packages.ensure_installed(["lvt-old"])
    rig.host.run("rm /run/lvt-waits /run/lvt-go")
    assert rig.packages.installed().has("lvt-slow")


@on_one_host
def test_two_at_the_same_time_come_one_after_the_other(rig: Rig, asked: list[str]) -> None:
    with ThreadPoolExecutor() as threads:
        names = (["lvt-tool"], ["lvt-old"])
        changes = [threads.submit(rig.packages.ensure_installed, each) for each in names]
        # Each tells what was added between its own two looks, which may include the other's.
        assert [set(names[i]) <= change.result().added.keys() for i, change in enumerate(changes)] == [True, True]
    assert {"lvt-tool", "lvt-base", "lvt-old"} <= rig.packages.installed().versions.keys()


def test_the_sources_are_levier_s_own_and_the_image_s_come_back(rig: Rig) -> None:
    before = rig.packages.sources()
    assert [file.path for file in before.files] == [_OWN]
    wanted = PackageSources(
        debian=DebianSources(
            mirror="http://10.77.0.1:3142/debian",
            security_mirror="http://10.77.0.1:3142/debian-security",
            components=("main", "contrib"),
            check_valid_until=False,
            proxy="http://10.77.0.1:3128",
        )
    )
    changed = rig.packages.ensure_sources(wanted)
    assert _OWN in changed
    assert rig.packages.ensure_sources(wanted) == ()
    codename = rig.host.run(". /etc/os-release; echo $VERSION_CODENAME").stdout.strip()
    uris = rig.host.run('apt-get update --print-uris | cut -d "\'" -f 2 | grep InRelease').stdout.splitlines()
    archive = "http://10.77.0.1:3142/debian"
    assert sorted(uris) == [
        f"{archive}-security/dists/{codename}-security/InRelease",
        f"{archive}/dists/{codename}-updates/InRelease",
        f"{archive}/dists/{codename}/InRelease",
    ]
    assert "http://10.77.0.1:3128" in rig.host.run("apt-config dump Acquire::http::Proxy").stdout
    rig.packages.ensure_sources(PackageSources())
    assert rig.packages.sources() == before
    rig.packages.ensure_sources(wanted)
    rig.packages.restore_sources(type(before).model_validate_json(before.model_dump_json()))
    assert rig.packages.sources() == before
    assert rig.packages.restore_sources(before) == ()
