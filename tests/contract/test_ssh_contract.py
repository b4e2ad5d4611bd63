"""What every `RemoteHost` must do: against OpenSSH as root, and as another user through sudo; against a stub host."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivers.ssh import SshOptions, open_host
from levier.domain.errors import InvalidRequest, OutcomeUnknown, Rejected
from levier.domain.ssh import RemoteHost

pytestmark = pytest.mark.root

_EVERY_BYTE = bytes(range(256)) * 4096


@pytest.fixture(scope="module", params=["root on this machine", "sudo on debian-12", "a stub host of the lab"])
def host(request: pytest.FixtureRequest) -> Iterator[RemoteHost]:
    if request.param == "root on this machine":
        opened = open_host(request.getfixturevalue("sshd").target())
    elif request.param == "a stub host of the lab":
        opened = open_host(request.getfixturevalue("stub").target())
    else:
        container = request.getfixturevalue("debian_12")
        opened = open_host(container.target(username="ops"), SshOptions(become=True))
    yield opened
    opened.close()


@pytest.fixture
def folder(host: RemoteHost) -> Iterator[str]:
    path = f"/tmp/levier test '{uuid.uuid4().hex[:8]}"
    host.run(f'mkdir -m 0755 -- "{path}"')
    yield path
    host.run(f'rm -rf -- "{path}"')


def test_output_is_separated_and_the_status_told(host: RemoteHost) -> None:
    result = host.run("echo out; echo err >&2; exit 7", check=False)
    assert (result.exit_status, result.stdout) == (7, "out\n")
    assert result.stderr.endswith("err\n")
    assert 0 < result.duration_s < 30


def test_a_failure_is_rejected_with_the_end_of_its_stderr(host: RemoteHost) -> None:
    with pytest.raises(Rejected, match=r"(?s)status 3.*no such thing$") as caught:
        host.run("echo no such thing >&2; exit 3")
    assert caught.value.hint


def test_commands_run_as_root(host: RemoteHost) -> None:
    assert host.run("id -un").stdout == "root\n"


def test_shell_syntax_and_quotes_arrive_as_written(host: RemoteHost) -> None:
    result = host.run("""x='a "b" $HOME'; printf '%s|' "$x" | tr b B; echo "it's; \\$done" # comment""")
    assert result.stdout == """a "B" $HOME|it's; $done\n"""


def test_a_signal_becomes_a_status(host: RemoteHost) -> None:
    assert host.run("kill -KILL $$", check=False).exit_status == 128 + 9
    assert host.run("kill -TERM $$", check=False).exit_status == 128 + 15


def test_invalid_utf8_is_replaced(host: RemoteHost) -> None:
    assert host.run(r"printf 'a\377b'").stdout == "a\N{REPLACEMENT CHARACTER}b"


def test_binary_stdin_arrives_whole_and_ends(host: RemoteHost) -> None:
    result = host.run("sha256sum", stdin=_EVERY_BYTE)
    assert result.stdout.split()[0] == hashlib.sha256(_EVERY_BYTE).hexdigest()
    assert host.run("wc -c").stdout.strip() == "0"


def test_a_command_may_leave_its_stdin_unread(host: RemoteHost) -> None:
    assert host.run("head -c 1 >/dev/null; echo enough", stdin=_EVERY_BYTE * 8).stdout == "enough\n"


def test_ten_megabytes_on_both_streams_at_once(host: RemoteHost) -> None:
    size = 10 * 2**20
    result = host.run(f"head -c {size} /dev/zero | tr '\\0' o & head -c {size} /dev/zero | tr '\\0' e >&2; wait")
    assert result.stdout == "o" * size
    assert result.stderr.endswith("e" * size)


def test_stderr_first_and_stdin_at_the_same_time(host: RemoteHost) -> None:
    """Each stream alone exceeds the SSH window (2 MiB): whoever serves them one by one stands still for ever."""
    size = 6 * 2**20
    result = host.run(f"head -c {size} /dev/zero >&2; cat", stdin=b"i" * size)
    assert (len(result.stdout), len(result.stderr) >= size) == (size, True)


def test_a_timeout_ends_the_whole_process_group(host: RemoteHost) -> None:
    tag = f"4{uuid.uuid4().int % 10**6:06}"
    started = time.monotonic()
    with pytest.raises(OutcomeUnknown, match=r"not finished after 1 s.*ended on the host"):
        host.run(f"sleep {tag} & sleep {tag}", timeout_s=1)
    assert time.monotonic() - started < 10
    assert host.run(f"pgrep -fx 'sleep {tag}'", check=False).stdout == ""


def test_a_timeout_ends_what_ignores_sigterm(host: RemoteHost) -> None:
    tag = f"5{uuid.uuid4().int % 10**6:06}"
    with pytest.raises(OutcomeUnknown, match="process group was ended"):
        host.run(f"trap '' TERM; sleep {tag}; sleep {tag}", timeout_s=1)
    assert host.run(f"pgrep -fx 'sleep {tag}'", check=False).stdout == ""


def test_a_status_of_124_in_time_is_no_timeout(host: RemoteHost) -> None:
    assert host.run("exit 124", check=False).exit_status == 124


@pytest.mark.parametrize("command", ["echo \0", "true"])
def test_a_senseless_request_is_refused(host: RemoteHost, command: str) -> None:
    with pytest.raises(InvalidRequest):
        host.run(command, timeout_s=0 if command == "true" else 5)


def test_upload_creates_then_leaves_alone(host: RemoteHost, folder: str) -> None:
    path = f"{folder}/file with spaces"
    assert host.upload(_EVERY_BYTE, path, mode=0o640, owner="daemon", group="adm") is True
    first = host.run(f'stat -c "%i %Y %Z" "{path}"').stdout
    assert host.upload(_EVERY_BYTE, path, mode=0o640, owner="daemon", group="adm") is False
    assert host.run(f'stat -c "%i %Y %Z" "{path}"').stdout == first
    stat = host.download(path)
    assert stat is not None
    assert (stat.mode, stat.owner, stat.group) == (0o640, "daemon", "adm")
    assert stat.content == _EVERY_BYTE
    assert host.run(f'ls -A "{folder}"').stdout == "file with spaces\n"


@pytest.mark.parametrize(
    "change",
    [{"content": b"new"}, {"mode": 0o4750}, {"owner": "daemon"}, {"group": "adm"}],
    ids=lambda c: next(iter(c)),
)
def test_each_attribute_counts(host: RemoteHost, folder: str, change: dict[str, object]) -> None:
    path = f"{folder}/f"
    old: dict[str, object] = {"content": b"old", "mode": 0o600, "owner": "root", "group": "root"}
    assert host.upload(path=path, **old) is True  # type: ignore[arg-type]
    assert host.upload(path=path, **{**old, **change}) is True  # type: ignore[arg-type]
    stat = host.download(path)
    assert stat is not None
    assert {"content": stat.content, "mode": stat.mode, "owner": stat.owner, "group": stat.group} == {**old, **change}


def test_numeric_owners_are_compared_as_ids(host: RemoteHost, folder: str) -> None:
    path = f"{folder}/f"
    assert host.upload(b"", path, owner="54321", group="0") is True
    assert host.upload(b"", path, owner="54321", group="0") is False


def test_replacing_is_atomic_for_readers(host: RemoteHost, folder: str) -> None:
    """A reader that loops while the file is replaced sees one of the two contents, never a part or nothing."""
    path = f"{folder}/f"
    contents = [letter * 300_000 for letter in (b"a", b"b")]
    host.upload(contents[0], path)
    reader = f"""while [ ! -e "{folder}/stop" ]; do sha256sum < "{path}" || exit 9; done | sort -u"""
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(host.run, reader)
        for round_ in range(10):
            host.upload(contents[(round_ + 1) % 2], path)
        host.upload(b"", f"{folder}/stop")
        digests = {line.split()[0] for line in seen.result().stdout.splitlines()}
    assert digests
    assert digests <= {hashlib.sha256(content).hexdigest() for content in contents}


def test_a_link_is_replaced_and_its_target_untouched(host: RemoteHost, folder: str) -> None:
    host.upload(b"target", f"{folder}/target")
    host.run(f'ln -s target "{folder}/link"')
    read = host.download(f"{folder}/link")
    assert read is not None
    assert read.content == b"target"
    assert host.upload(b"target", f"{folder}/link") is True
    assert host.run(f'readlink "{folder}/link" || echo none').stdout == "none\n"
    host.run(f'ln -sfT target "{folder}/link"')
    assert host.remove(f"{folder}/link") is True
    assert host.run(f'cat "{folder}/target"').stdout == "target"


def test_a_missing_directory_is_named(host: RemoteHost, folder: str) -> None:
    with pytest.raises(Rejected, match=r"the directory .*/none does not exist"):
        host.upload(b"x", f"{folder}/none/f")


def test_a_directory_is_no_file(host: RemoteHost, folder: str) -> None:
    for attempt in (lambda: host.upload(b"x", folder), lambda: host.remove(folder)):
        with pytest.raises(Rejected, match="is a directory"):
            attempt()
    with pytest.raises(Rejected, match="no regular file"):
        host.download(folder)
    assert host.run(f'test -d "{folder}" && echo there').stdout == "there\n"


def test_an_unknown_owner_leaves_nothing_behind(host: RemoteHost, folder: str) -> None:
    with pytest.raises(Rejected, match="invalid user"):
        host.upload(b"x", f"{folder}/f", owner="nobody-has-this-name")
    assert host.run(f'ls -A "{folder}"').stdout == ""


def test_a_full_disk_leaves_the_old_file(host: RemoteHost, folder: str) -> None:
    host.run(f'mkdir "{folder}/small" && mount -t tmpfs -o size=64k tmpfs "{folder}/small"')
    try:
        host.upload(b"old", f"{folder}/small/f")
        with pytest.raises(Rejected, match=r"[Nn]o space left"):
            host.upload(os.urandom(200_000), f"{folder}/small/f")
        assert host.run(f'cd "{folder}/small" && ls -A && cat f').stdout == "f\nold"
    finally:
        host.run(f'umount "{folder}/small"')


def test_what_is_not_there(host: RemoteHost, folder: str) -> None:
    assert host.download(f"{folder}/none") is None
    assert host.remove(f"{folder}/none") is False
    host.upload(b"", f"{folder}/empty")
    empty = host.download(f"{folder}/empty")
    assert empty is not None
    assert empty.content == b""
    assert host.remove(f"{folder}/empty") is True
    assert host.download(f"{folder}/empty") is None


def test_a_relative_path_is_refused(host: RemoteHost) -> None:
    with pytest.raises(InvalidRequest, match="no absolute path"):
        host.upload(b"", "etc/hosts")


def test_facts_agree_with_the_host(host: RemoteHost) -> None:
    facts = host.facts()
    told = host.run(
        "uname -n; uname -r; cat /etc/machine-id /proc/sys/kernel/random/boot_id; "
        "nproc --all; . /etc/os-release; echo $ID"
    ).stdout.split()
    assert [facts.hostname, facts.kernel, facts.machine_id, facts.boot_id, str(facts.cpu_count), facts.os_id] == told
    total_kib = int(host.run("grep MemTotal /proc/meminfo").stdout.split()[1])
    assert facts.memory_mib == total_kib // 1024
    sizes = {disk.name: disk.size_bytes for disk in facts.disks}
    for name, size in sizes.items():
        assert int(host.run(f"cat /sys/block/{name}/size").stdout) * 512 == size


def test_sixteen_threads_share_one_connection(host: RemoteHost) -> None:
    """Twice as many as sessions are allowed: they queue, each gets its own output, and sshd's MaxSessions is kept."""
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda n: host.run(f"echo {n}; echo e{n} >&2; cat", stdin=b"s%d" % n), range(64)))
    assert [result.stdout for result in results] == [f"{n}\ns{n}" for n in range(64)]
    assert all(result.stderr.endswith(f"e{n}\n") for n, result in enumerate(results))


def test_a_closed_host_opens_again(host: RemoteHost) -> None:
    host.close()
    host.close()
    assert host.run("echo back").stdout == "back\n"


def test_waiting_for_a_host_that_is_up_returns_at_once(host: RemoteHost) -> None:
    started = time.monotonic()
    host.wait_until_up(timeout_s=60)
    assert time.monotonic() - started < 30
