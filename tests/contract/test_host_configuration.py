"""Users, directories, files and units of a running Debian host: put, repeated, interrupted, and put back."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from drivers.host import (
    Directory,
    File,
    HostConfiguration,
    UnitState,
    User,
    complaints,
    ensure_running,
    forget,
    forget_unchanged,
    keep,
    observe_units,
    put,
    put_back,
    run_again,
    stop_again,
)
from drivers.ssh import open_host
from levier.domain.errors import Rejected
from levier.domain.ssh import RemoteHost
from tests.rig.container import Container

pytestmark = pytest.mark.root

UNIT = b"""[Service]
ExecStart=/bin/sh -c 'cat /etc/clerk/clerk.conf; exec sleep 3600'
[Install]
WantedBy=multi-user.target
"""
WANTED = HostConfiguration(
    users=(User(name="clerk", groups=("adm",), home="/var/lib/clerk"),),
    directories=(
        Directory(path="/etc/clerk", group="clerk", mode=0o750),
        Directory(path="/var/lib/clerk", owner="clerk", group="clerk", mode=0o700),
    ),
    files=(
        File(path="/etc/clerk/clerk.conf", content=b"password = wishbone\n", group="clerk", mode=0o640),
        File(path="/etc/motd", content=b"a clerk works here\n"),
        File(path="/etc/systemd/system/clerk.service", content=UNIT),
    ),
)
UNITS = ("clerk.service",)
PATHS = [file.path for file in WANTED.files]
OPERATION = "install-1/clerk"


@pytest.fixture
def host(debian_12: Container) -> Iterator[RemoteHost]:
    """The host, which each test leaves as it found it."""
    host = open_host(debian_12.target())
    before = seen(host)
    yield host
    host.run("systemctl disable --now clerk.service", check=False)
    put_back(host, name=OPERATION)
    host.run("systemctl daemon-reload")
    assert seen(host) == before
    host.close()


def seen(host: RemoteHost) -> str:
    """Everything that the configuration touches, as a person would look at it."""
    looks = (
        "getent passwd clerk",
        "getent group clerk adm",
        "stat -c '%n %a %U %G' /etc/clerk /var/lib/clerk /etc/clerk/clerk.conf /etc/motd",
        "sha256sum /etc/motd /etc/clerk/clerk.conf",
        "find /var/lib/levier",
        "systemctl is-enabled clerk.service",
    )
    return host.run("; ".join(looks) + "; true").stdout


def test_what_is_put_is_there_and_putting_it_again_changes_nothing(host: RemoteHost) -> None:
    keep(host, WANTED, name=OPERATION)
    assert {"user clerk", "directory /etc/clerk", "/etc/motd"} <= set(put(host, WANTED))
    conf = host.download("/etc/clerk/clerk.conf")
    assert conf is not None
    assert (conf.content, conf.mode, conf.group) == (b"password = wishbone\n", 0o640, "clerk")
    assert "adm" in host.run("id -Gn clerk").stdout
    assert put(host, WANTED) == ()


def test_what_was_there_comes_back_to_the_last_attribute(host: RemoteHost) -> None:
    host.run("chmod 0600 /etc/motd; chown adm: /etc/motd 2>/dev/null || chgrp adm /etc/motd")
    before = seen(host)
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    host.run("echo data > /var/lib/clerk/made-by-the-clerk")
    assert "/etc/motd" in put_back(host, name=OPERATION)
    assert seen(host) == before
    assert put_back(host, name=OPERATION) == (), "safe to repeat"
    host.run("chmod 0644 /etc/motd; chgrp root /etc/motd")


def test_what_is_kept_is_the_state_before_the_first_attempt(host: RemoteHost) -> None:
    """A process that died between keeping and putting, or in the middle of putting, is followed by another one."""
    before = seen(host)
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED.model_copy(update={"files": WANTED.files[:2]}))
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    put_back(host, name=OPERATION)
    assert seen(host) == before


def test_a_process_that_died_while_it_forgot_what_was_kept_leaves_nothing_either(host: RemoteHost) -> None:
    before = seen(host)
    place = keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    put_back(host, name=OPERATION)
    host.run(f"mkdir -p {place}.gone && touch {place}.gone/manifest")
    put_back(host, name=OPERATION)
    assert seen(host) == before


def test_a_file_that_is_forgotten_leaves_no_directory_and_nothing_of_others_goes(host: RemoteHost) -> None:
    place = keep(host, WANTED, name=OPERATION)
    dump = "/var/lib/levier/kept/install-1/dumps/a.sql"
    host.run(f"mkdir -p $(dirname {dump}) && touch {dump}.part")
    forget(host, dump)
    forget(host, dump)
    assert host.run(f"ls $(dirname {place})").stdout.split() == ["clerk"]
    put(host, WANTED)


def test_what_was_mounted_in_a_directory_of_the_operation_is_unmounted(host: RemoteHost) -> None:
    before = seen(host)
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    place = f"{WANTED.directories[0].path}/a share"
    host.run(f"mkdir '{place}' && mount -t tmpfs share '{place}' && touch '{place}/file'")
    put_back(host, name=OPERATION)
    assert seen(host) == before
    assert "share" not in host.run("cat /proc/mounts").stdout


def test_processes_of_a_user_of_the_operation_end_with_him(host: RemoteHost) -> None:
    before = seen(host)
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    name = WANTED.users[0].name
    host.run(
        f"setsid setpriv --reuid {name} --clear-groups sh -c 'trap : TERM; while :; do sleep 1; done' >/dev/null 2>&1 &"
    )
    # As a sudo that he called: root's, but for the real user.
    host.run(f"U=$(id -u {name}) setsid perl -e '$< = $ENV{{U}}; sleep 600' >/dev/null 2>&1 &")
    assert {"perl", "sh"} <= set(host.run(f"ps -o comm= -U {name} -u {name}").stdout.split())
    put_back(host, name=OPERATION)
    assert seen(host) == before


def test_what_is_kept_is_for_root_only(host: RemoteHost) -> None:
    place = keep(host, WANTED, name=OPERATION)
    modes = host.run(f"find {place} -printf '%m\\n' | sort -u").stdout.split()
    assert all(int(mode, 8) & 0o077 == 0 for mode in host.run(f"stat -c %a {place}").stdout.split())
    assert modes


def test_something_in_the_way_is_refused_before_anything_is_touched(host: RemoteHost) -> None:
    host.run("mkdir /etc/clerk.d")
    wanted = HostConfiguration(files=(File(path="/etc/clerk.d", content=b""),))
    with pytest.raises(Rejected, match="is neither a file nor a link"):
        keep(host, wanted, name=OPERATION)
    host.run("rmdir /etc/clerk.d")


def test_a_unit_runs_with_the_configuration_of_now(host: RemoteHost) -> None:
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    before = observe_units(host, UNITS)
    assert ensure_running(host, UNITS, files=PATHS) == UNITS
    (state,) = observe_units(host, UNITS)
    assert (state.enabled, state.active) == (True, True)
    assert ensure_running(host, UNITS, files=PATHS) == (), "it is left alone"
    changed = File(path="/etc/clerk/clerk.conf", content=b"password = merrythought\n", group="clerk", mode=0o640)
    put(host, WANTED.model_copy(update={"files": (changed, *WANTED.files[1:])}))
    assert ensure_running(host, UNITS, files=PATHS, steady=UNITS) == (), "it does not read them"
    assert ensure_running(host, UNITS, files=PATHS) == UNITS
    stop_again(host, before)
    (state,) = observe_units(host, UNITS)
    assert (state.enabled, state.active) == (False, False)
    assert stop_again(host, before) == (), "safe to repeat"
    assert run_again(host, before, files=PATHS) == (), "it did not run before"


def test_a_unit_that_was_restarted_for_a_configuration_runs_with_the_earlier_one_again(host: RemoteHost) -> None:
    before = clerk_at_work(host)
    changed = File(path=PATHS[0], content=b"password = merrythought\n", group="clerk", mode=0o640)
    second = WANTED.model_copy(update={"files": (changed, *WANTED.files[1:])})
    keep(host, second, name="install-2/clerk")
    put(host, second)
    ensure_running(host, UNITS, files=PATHS)
    assert said_since(host, before[0].invocation) == "password = merrythought"
    assert stop_again(host, before) == UNITS
    assert stop_again(host, before) == (), "safe to repeat"
    assert put_back(host, name="install-2/clerk") == (PATHS[0],), "what is as it was is left alone"
    assert run_again(host, before, files=PATHS) == UNITS
    assert said_since(host, before[0].invocation) == "password = wishbone"
    assert run_again(host, before, files=PATHS) == (), "safe to repeat"
    assert ensure_running(host, UNITS, files=PATHS) == ()


def test_a_unit_whose_stop_was_passed_over_is_restarted_with_the_earlier_configuration(host: RemoteHost) -> None:
    """An operator may take the undo of a start out of the plan."""
    before = clerk_at_work(host)
    changed = File(path=PATHS[0], content=b"password = merrythought\n", group="clerk", mode=0o640)
    keep(host, WANTED, name="install-2/clerk")
    put(host, HostConfiguration(files=(changed,)))
    ensure_running(host, UNITS, files=PATHS)
    put_back(host, name="install-2/clerk")
    assert run_again(host, before, files=PATHS) == UNITS
    assert said_since(host, before[0].invocation) == "password = wishbone"


def test_a_unit_that_was_not_touched_goes_on_when_its_files_come_back(host: RemoteHost) -> None:
    before = clerk_at_work(host)
    keep(host, WANTED, name="install-2/clerk")
    put(host, HostConfiguration(files=(File(path=PATHS[0], content=b"new\n", group="clerk", mode=0o640),)))
    assert stop_again(host, before) == ()
    put_back(host, name="install-2/clerk")
    assert run_again(host, before, files=PATHS) == ()
    assert observe_units(host, UNITS)[0].invocation == before[0].invocation


def test_a_unit_runs_with_the_release_that_its_link_names(host: RemoteHost) -> None:
    put_link = "ln -sfT {0} /etc/clerk/release.new && mv -T /etc/clerk/release.new /etc/clerk/release"
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    host.run(put_link.format("/usr/bin"))
    files = [*(file.path for file in WANTED.files), "/etc/clerk/release"]
    assert ensure_running(host, UNITS, files=files) == UNITS
    assert ensure_running(host, UNITS, files=files) == ()
    host.run(put_link.format("/usr/sbin"))
    assert ensure_running(host, UNITS, files=files) == UNITS


def test_a_unit_that_only_tries_to_start_is_stopped_too(host: RemoteHost) -> None:
    unit = UNIT.replace(b"[Service]", b"[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=600")
    wanted = WANTED.model_copy(update={"files": (*WANTED.files[:2], File(path=WANTED.files[2].path, content=unit))})
    keep(host, wanted, name=OPERATION)
    put(host, wanted)
    before = observe_units(host, UNITS)
    host.run("systemctl daemon-reload; systemctl start --no-block clerk.service")
    host.run("until [ $(systemctl show -p ActiveState --value clerk.service) = activating ]; do sleep 0.1; done")
    (state,) = observe_units(host, UNITS)
    assert (state.active, state.stopped) == (False, False)
    assert stop_again(host, before) == UNITS
    assert observe_units(host, UNITS)[0].stopped


def clerk_at_work(host: RemoteHost) -> tuple[UnitState, ...]:
    """The unit runs with what is wanted; how it stands."""
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    ensure_running(host, UNITS, files=PATHS)
    return observe_units(host, UNITS)


def said_since(host: RemoteHost, earlier: str) -> str:
    """What the clerk of now, another one than `earlier`, read when he was started."""
    invocation = observe_units(host, UNITS)[0].invocation
    assert invocation != earlier
    script = f"until journalctl -o cat _SYSTEMD_INVOCATION_ID={invocation} | grep password; do sleep 0.1; done"
    return host.run(script, timeout_s=60).stdout.strip()


def test_what_is_kept_of_a_configuration_that_was_there_is_forgotten(host: RemoteHost) -> None:
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    place = keep(host, WANTED, name="install-2/clerk")
    forget_unchanged(host, name="install-2/clerk")
    forget_unchanged(host, name="install-2/clerk")
    assert host.run(f"test -e {place}", check=False).exit_status == 1
    forget_unchanged(host, name=OPERATION)
    assert put_back(host, name=OPERATION) != (), "what was changed stays kept"


@pytest.mark.parametrize(
    "change",
    [
        "chmod 0600 /etc/motd",
        "echo more >> /etc/motd",
        "rm /etc/motd",
        "ln -sf /etc/issue /etc/motd",
        "chmod 0755 /etc/clerk",
        "touch /etc/nobody",
        "useradd --system nobody-else",
    ],
)
def test_whatever_was_changed_stays_kept(host: RemoteHost, change: str) -> None:
    extra = HostConfiguration(
        users=(*WANTED.users, User(name="nobody-else")),
        directories=WANTED.directories,
        files=(*WANTED.files, File(path="/etc/nobody", content=b"")),
    )
    keep(host, WANTED, name=OPERATION)
    put(host, WANTED)
    place = keep(host, extra, name="install-2/clerk")
    host.run(change)
    forget_unchanged(host, name="install-2/clerk")
    assert host.run(f"test -e {place}", check=False).exit_status == 0
    put_back(host, name="install-2/clerk")


def test_a_unit_that_fails_tells_its_last_words(host: RemoteHost) -> None:
    failing = File(
        path="/etc/systemd/system/clerk.service",
        content=UNIT.replace(b"[Service]", b"[Service]\nType=notify\nTimeoutStartSec=3\nNotifyAccess=all").replace(
            b"exec sleep 3600", b"echo the ink is dry; exit 3"
        ),
    )
    wanted = WANTED.model_copy(update={"files": (*WANTED.files[:2], failing)})
    keep(host, wanted, name=OPERATION)
    put(host, wanted)
    before = observe_units(host, UNITS)
    with pytest.raises(Rejected, match="the ink is dry"):
        ensure_running(host, UNITS)
    stop_again(host, before)


COMPLAINS = b"""[Service]
ExecStart=/bin/cat /etc/clerk/clerk.conf
Restart=always
RestartSec=0.2
StartLimitIntervalSec=0
[Install]
WantedBy=multi-user.target
"""
JOURNAL = b"""2026-11-27 18:34:35.100 34 INFO clerk.desk [None req-58f3] the shop opens
2026-11-27 18:34:35.357 34 ERROR clerk.desk [None req-58f3 - -] [quill: 7] The desk failed to open.
2026-11-27 18:34:35.358 34 ERROR clerk.desk [quill: 7] Traceback (most recent call last):
2026-11-27 18:34:35.358 34 ERROR clerk.desk [quill: 7]   File "clerk/desk.py", line 85, in open
2026-11-27 18:34:35.358 34 ERROR clerk.desk [quill: 7]     ink = self.pot.read()
2026-11-27 18:34:35.358 34 ERROR clerk.desk [quill: 7] FileNotFoundError: no 'ink'
2026-11-27 18:34:35.358 34 ERROR clerk.desk
"""


def test_a_program_that_ends_again_and_again_is_told_by_its_complaints(host: RemoteHost) -> None:
    files = (
        File(path="/etc/clerk/clerk.conf", content=JOURNAL),
        File(path="/etc/systemd/system/clerk.service", content=COMPLAINS),
    )
    wanted = WANTED.model_copy(update={"files": files})
    keep(host, wanted, name=OPERATION)
    put(host, wanted)
    before = observe_units(host, UNITS)
    host.run("systemctl daemon-reload; systemctl start clerk.service")
    host.run("until [ $(systemctl show -p NRestarts --value clerk.service) -ge 2 ]; do sleep 0.1; done", timeout_s=60)
    said = complaints(host, UNITS)
    stop_again(host, before)
    assert re.match(r"started again ([2-9]|\d\d+) times; ", said)
    assert "The desk failed to open.|FileNotFoundError: no 'ink'" in said
    assert not {"INFO", "Traceback", "self.pot", "req-58f3"} & set(re.split(r"[ (|]", said))


def test_a_program_that_does_not_complain_is_said_not_to(host: RemoteHost) -> None:
    assert complaints(host, ["a-unit-that-nobody-knows.service"]) == "no complaint in the journal"


def test_without_a_complaint_it_is_told_what_the_program_said_last(host: RemoteHost) -> None:
    host.run("systemd-run --quiet --unit porter.service sh -c 'sleep 1; echo the shop opens; exec sleep 600'")
    host.run("until journalctl -u porter.service | grep -q ': the shop opens'; do sleep 0.1; done", timeout_s=60)
    said = complaints(host, ["porter.service"])
    host.run("systemctl stop porter.service")
    assert re.fullmatch(r"no complaint in the journal, whose last line is \d+ s old: sh\[\d+\]: the shop opens", said)
