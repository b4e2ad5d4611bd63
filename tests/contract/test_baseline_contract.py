"""The baseline on running Debian 12 and 13 hosts: put in force, verified, repeated, interrupted and taken back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from drivers.baseline import (
    AppliedBaseline,
    BaselineSpec,
    BaselineState,
    HostEntry,
    SysctlSetting,
    apply_baseline,
    observe_baseline,
    read_revision,
    restore_baseline,
    verify_baseline,
)
from drivers.ssh import generate_host_key, open_host
from levier.domain.errors import MalformedReply, OutcomeUnknown, Rejected
from levier.domain.ssh import RemoteHost, SshTarget
from tests.rig.container import Container

pytestmark = pytest.mark.root

_OPERATOR = generate_host_key("operator")
_SPEC = BaselineSpec(
    revision=7,
    hostname="a1-02",
    domain="paris.example.org",
    hosts=(
        HostEntry(address="10.77.0.11", names=("a1-01.paris.example.org", "a1-01")),
        HostEntry(address="10.77.0.12", names=("a1-02.paris.example.org", "a1-02")),
    ),
    timezone="Europe/Paris",
    ntp_servers=("10.77.0.1",),
    operator_keys=(_OPERATOR.public_line,),
    sysctls=(
        SysctlSetting(key="net.ipv4.ip_forward", value="1"),
        SysctlSetting(key="net.ipv4.ip_local_port_range", value="20000  60000"),
        # A container may not change the kernel of its outer host: what an optional refusal looks like.
        SysctlSetting(key="vm.swappiness", value="7", optional=True),
        SysctlSetting(key="net.ipv4.no_such_setting", value="1", optional=True),
    ),
)
_ALL_PATHS = (
    "/etc/hostname",
    "/etc/hosts",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/systemd/timesyncd.conf.d/levier.conf",
    "/root/.ssh/authorized_keys2",
    "/etc/sysctl.d/90-levier.conf",
    "/etc/levier/revision",
)


@pytest.fixture(scope="module", params=["debian_12", "debian_13"])
def container(request: pytest.FixtureRequest) -> Container:
    found: Container = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def host(container: Container) -> Iterator[RemoteHost]:
    """The host, which each test leaves as it found it."""
    host = open_host(container.target())
    before = observe_baseline(host, _SPEC)
    yield host
    restore_baseline(host, before)
    host.close()


def _changed(**update: Any) -> BaselineSpec:
    return BaselineSpec.model_validate({**_SPEC.model_dump(), **update})


def _cause(host: RemoteHost, command: str) -> str:
    return host.run(command).stdout.strip()


def test_applying_takes_effect(host: RemoteHost) -> None:
    assert verify_baseline(host, _SPEC), "the host already was as wanted: the test would show nothing"
    applied = apply_baseline(host, _SPEC)
    assert set(applied.changed) == set(_ALL_PATHS)
    assert set(applied.effects) == {
        "hostname",
        "sysctl net/ipv4/ip_forward",
        "sysctl net/ipv4/ip_local_port_range",
    }
    assert _cause(host, "hostname; hostname --fqdn; cat /etc/hostname") == "a1-02\na1-02.paris.example.org\na1-02"
    assert _cause(host, "getent hosts a1-01").split()[0] == "10.77.0.11"
    assert _cause(host, "date -d @1750000000 +%Z%H") == "CEST17"
    assert _cause(host, "cat /proc/sys/net/ipv4/ip_forward") == "1"
    assert _cause(host, "cat /proc/sys/net/ipv4/ip_local_port_range").split() == ["20000", "60000"]
    revision = read_revision(host)
    assert revision is not None
    assert (revision.revision, revision.spec_sha256) == (7, _SPEC.digest)
    assert verify_baseline(host, _SPEC) == ()


def test_refused_optional_settings_are_reported(host: RemoteHost) -> None:
    refused = {refusal.key: refusal for refusal in apply_baseline(host, _SPEC).refused}
    assert set(refused) == {"vm.swappiness", "net.ipv4.no_such_setting"}
    assert "Read-only file system" in refused["vm.swappiness"].reason
    assert refused["vm.swappiness"].actual == _cause(host, "cat /proc/sys/vm/swappiness") != "7"
    assert refused["net.ipv4.no_such_setting"].actual is None


def test_a_second_run_changes_nothing_and_says_so(host: RemoteHost) -> None:
    apply_baseline(host, _SPEC)
    stats = "stat -c '%n %i %Y %Z' " + " ".join(_ALL_PATHS)
    before = _cause(host, stats)
    again = apply_baseline(host, _SPEC)
    assert again.unchanged
    assert (again.changed, again.effects) == ((), ())
    assert _cause(host, stats) == before


def test_the_operator_gets_in_and_levier_stays_in(host: RemoteHost, container: Container) -> None:
    ours = container.target()
    theirs = SshTarget(ours.host, ours.port, "root", ours.host_keys, _OPERATOR.private_openssh)
    previous = apply_baseline(host, _SPEC).previous
    for target in (ours, theirs):
        login = open_host(target)
        assert login.run("id -un").stdout == "root\n"
        login.close()
    restore_baseline(host, previous)
    with pytest.raises(Exception, match="was refused"):
        open_host(theirs).run("true")
    assert open_host(ours).run("id -un").stdout == "root\n"


def test_restoring_returns_to_the_earlier_state(host: RemoteHost) -> None:
    """The earlier state has what an image may have: a link where a file goes, odd bytes and owner, no directory."""
    host.run("ln -sfT /run/levier-elsewhere /etc/timezone")
    host.upload(b"127.0.0.1 localhost \xff\n", "/etc/hosts", mode=0o640, group="adm")
    listing = "md5sum < /etc/hosts; stat -c '%n %a %u %g' /etc/hosts /etc/hostname; readlink /etc/timezone"
    before, state = _cause(host, listing), observe_baseline(host, _SPEC)
    stored = apply_baseline(host, _SPEC).model_dump_json()
    previous = AppliedBaseline.model_validate_json(stored).previous
    assert previous == state
    undone = restore_baseline(host, previous)
    assert set(_ALL_PATHS) <= set(undone)
    assert "hostname" in undone
    assert "sysctl net/ipv4/ip_forward" in undone
    assert _cause(host, listing) == before
    assert observe_baseline(host, _SPEC) == state
    assert _cause(host, "ls -d /etc/levier /etc/systemd/timesyncd.conf.d 2>/dev/null || echo gone") == "gone"
    assert restore_baseline(host, previous) == ()
    assert read_revision(host) is None


def test_the_next_revision_and_back(host: RemoteHost) -> None:
    apply_baseline(host, _SPEC)
    following = _changed(revision=8, timezone="America/New_York", ntp_servers=(), operator_keys=())
    applied = apply_baseline(host, following)
    assert set(applied.changed) == {
        "/etc/localtime",
        "/etc/timezone",
        "/etc/systemd/timesyncd.conf.d/levier.conf",
        "/root/.ssh/authorized_keys2",
        "/etc/levier/revision",
    }
    assert applied.effects == ()
    assert verify_baseline(host, following) == ()
    restore_baseline(host, applied.previous)
    assert verify_baseline(host, _SPEC) == ()


class _Cut:
    """A host whose connection is lost after a number of changing calls: the call is made, its answer never comes."""

    def __init__(self, host: RemoteHost, *, after: int) -> None:
        self._host = host
        self._left = after

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._host, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            result = method(*args, **kwargs)
            self._left -= 1
            if self._left < 0:
                raise OutcomeUnknown("cut by the test")
            return result

        return call


def test_an_interruption_after_any_call_is_completed_or_undone(host: RemoteHost) -> None:
    before = observe_baseline(host, _SPEC)
    calls = 0
    while True:
        try:
            apply_baseline(_Cut(host, after=calls), _SPEC)  # type: ignore[arg-type]
        except OutcomeUnknown:
            marker = read_revision(host)
            if marker is not None:
                assert verify_baseline(host, _SPEC) == (), f"the marker ran ahead after {calls} calls"
            if calls % 2:
                apply_baseline(host, _SPEC)
                assert verify_baseline(host, _SPEC) == (), f"not completed after {calls} calls"
            restore_baseline(host, before)
            assert observe_baseline(host, _SPEC) == before, f"not undone after {calls} calls"
            calls += 1
        else:
            break
    assert calls > 8


def test_a_mandatory_refusal_is_an_error_and_leaves_no_marker(host: RemoteHost) -> None:
    strict = _changed(sysctls=[{"key": "vm.swappiness", "value": "7"}, {"key": "net.ipv4.ip_forward", "value": "1"}])
    before = observe_baseline(host, strict)
    with pytest.raises(Rejected, match=r"vm\.swappiness = '7' refused \(Read-only file system\), stays") as caught:
        apply_baseline(host, strict)
    assert "optional" in caught.value.hint
    assert read_revision(host) is None
    assert [d.subject for d in verify_baseline(host, strict)] == ["/etc/levier/revision", "sysctl vm.swappiness"]
    restore_baseline(host, before)
    assert observe_baseline(host, strict) == before


def test_a_value_the_kernel_does_not_take_is_an_error(host: RemoteHost) -> None:
    wrong = _changed(sysctls=[{"key": "net.ipv4.ip_local_port_range", "value": "60000 20000"}])
    with pytest.raises(Rejected, match="Invalid argument"):
        apply_baseline(host, wrong)


@pytest.mark.parametrize(
    ("update", "cause"),
    [
        ({"timezone": "Europe/Nowhere"}, "no time zone file"),
        ({"sysctls": [{"key": "net.ipv4.no_such_setting", "value": "1"}]}, "no_such_setting does not exist"),
    ],
    ids=["time zone", "kernel setting"],
)
def test_what_the_host_lacks_is_told_before_anything_is_touched(
    host: RemoteHost, update: dict[str, Any], cause: str
) -> None:
    before = observe_baseline(host, _SPEC)
    with pytest.raises(Rejected, match=cause):
        apply_baseline(host, _changed(**update))
    assert observe_baseline(host, _SPEC) == before


def test_a_directory_in_the_way_is_refused(host: RemoteHost) -> None:
    host.run("mkdir -p /etc/sysctl.d/90-levier.conf")
    try:
        with pytest.raises(Rejected, match=r"90-levier\.conf is neither a file nor a link"):
            apply_baseline(host, _SPEC)
    finally:
        host.run("rmdir /etc/sysctl.d/90-levier.conf")


@pytest.mark.parametrize(
    ("damage", "subjects"),
    [
        ("hostname wrong", {"hostname", "fqdn"}),
        ("echo '#' >> /etc/hosts", {"/etc/hosts"}),
        ("chmod 644 /root/.ssh/authorized_keys2", {"/root/.ssh/authorized_keys2"}),
        ("ln -sfT /usr/share/zoneinfo/Asia/Tokyo /etc/localtime", {"/etc/localtime", "timezone"}),
        ("rm /etc/timezone; ln -s /etc/hostname /etc/timezone", {"/etc/timezone"}),
        ("echo 0 > /proc/sys/net/ipv4/ip_forward", {"sysctl net.ipv4.ip_forward"}),
        ("rm /etc/levier/revision", {"/etc/levier/revision"}),
        ("sed -i 's/10.77.0.12.*/10.77.0.12 other/' /etc/hosts", {"/etc/hosts", "fqdn"}),
        ("echo 'AuthorizedKeysFile .ssh/authorized_keys' > /etc/ssh/sshd_config.d/x.conf", {"authorized keys"}),
    ],
    ids=["hostname", "content", "mode", "zone", "link", "sysctl", "revision", "names", "sshd"],
)
def test_each_deviation_is_found_and_mended(host: RemoteHost, damage: str, subjects: set[str]) -> None:
    apply_baseline(host, _SPEC)
    host.run(damage)
    try:
        found = verify_baseline(host, _SPEC)
        assert {deviation.subject for deviation in found} == subjects
        assert all(deviation.wanted != deviation.found for deviation in found)
    finally:
        host.run("rm -f /etc/ssh/sshd_config.d/x.conf")
    assert not apply_baseline(host, _SPEC).unchanged or subjects == {"authorized keys"}
    assert verify_baseline(host, _SPEC) == ()


def test_a_foreign_marker_is_malformed(host: RemoteHost) -> None:
    apply_baseline(host, _SPEC)
    host.upload(b"revision 7\n", "/etc/levier/revision")
    with pytest.raises(MalformedReply, match="not what Levier writes"):
        read_revision(host)


def test_it_outlives_a_reboot(host: RemoteHost) -> None:
    """Only what Debian's own boot reads counts now: nothing is applied again."""
    apply_baseline(host, _SPEC)
    # The network namespace, unlike a host's kernel, lasts longer than one boot.
    host.run("echo 0 > /proc/sys/net/ipv4/ip_forward")
    host.reboot_and_wait(timeout_s=90)
    assert verify_baseline(host, _SPEC) == ()


def test_the_earlier_state_survives_json(host: RemoteHost) -> None:
    state = observe_baseline(host, _SPEC)
    assert BaselineState.model_validate_json(state.model_dump_json()) == state
    assert "PRIVATE KEY" not in state.model_dump_json()
