"""Keys are what OpenSSH's own tools take them for."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from drivers.ssh import SshOptions, fingerprint, generate_host_key, open_host
from drivers.ssh.execution import command_line
from levier.domain.errors import InvalidRequest
from levier.domain.ssh import SshTarget


def test_openssh_reads_what_was_generated(tmp_path: Path) -> None:
    pair = generate_host_key("node a1-02")
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(pair.private_openssh)
    derived = subprocess.run(["ssh-keygen", "-y", "-f", str(path)], capture_output=True, text=True, check=True)
    assert pair.public_line.startswith(derived.stdout.split(" node")[0].strip())
    assert pair.public_line.endswith(" node a1-02")
    (tmp_path / "key.pub").write_text(pair.public_line + "\n")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", f"{path}.pub"], capture_output=True, text=True, check=True)
    assert shown.stdout.split()[1] == fingerprint(pair.public_line)


def test_every_pair_is_another_and_hides_its_private_half() -> None:
    one, two = generate_host_key(), generate_host_key()
    assert one.public_line != two.public_line
    assert "PRIVATE" not in repr(one)
    assert one.private_openssh.splitlines()[1] not in repr(one)


def test_a_comment_cannot_add_a_line() -> None:
    with pytest.raises(InvalidRequest, match="line break"):
        generate_host_key("a\nssh-ed25519 AAAA")


@pytest.mark.parametrize(
    "line", ["", "ssh-ed25519", "ssh-ed25519 !!!!", "ssh-ed25519 AAAA", "ssh-dss AAAAB3NzaC1kc3M=", "{}"]
)
def test_a_line_that_is_no_public_key_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequest):
        fingerprint(line)


def _target(private: str, *host_keys: str) -> SshTarget:
    return SshTarget("127.0.0.1", 22, "root", host_keys or (generate_host_key().public_line,), private)


def test_an_unreadable_private_key_is_refused_without_quoting_it(tmp_path: Path) -> None:
    good = generate_host_key().private_openssh
    broken = good.replace(good.splitlines()[1][:20], "A" * 20)
    path = tmp_path / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(path)], check=True)
    rsa = tmp_path / "rsa"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(rsa)], check=True)
    for pem in ("", "no key", broken, path.read_text(), rsa.read_text(), good[: len(good) // 2]):
        with pytest.raises(InvalidRequest) as caught:
            open_host(_target(pem))
        assert not any(line in str(caught.value) + caught.value.hint for line in pem.splitlines() if len(line) > 30)


def test_an_unknown_driver_names_the_known() -> None:
    with pytest.raises(InvalidRequest) as caught:
        open_host(_target(generate_host_key().private_openssh), driver="telnet")
    assert "paramiko" in caught.value.hint


def test_senseless_options_are_refused() -> None:
    with pytest.raises(InvalidRequest):
        SshOptions(max_sessions=0)
    with pytest.raises(InvalidRequest):
        SshOptions(connect_timeout_s=-1)


def test_the_command_line_gives_back_its_words() -> None:
    words = ["printf", "%s|", "a b", "c'd", '$x "y"', "", "é"]
    line = command_line(words, timeout_s=5, become=False)
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    assert done.stdout == 'a b|c\'d|$x "y"||é|'
    assert command_line(["id"], timeout_s=5, become=True).startswith("sudo -n -- timeout -k 5 5.000 id")
