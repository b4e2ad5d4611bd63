"""What a host finds on its disk at its first boot."""

from __future__ import annotations

import dataclasses
import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from drivers.images.seed import SeedSpec, render_meta_data, render_network_config, render_seed, render_user_data
from levier.domain.errors import InvalidRequest

PRIVATE = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH PRIVATE KEY-----\n"
SPEC = SeedSpec(
    instance_id="op-7-a1-01",
    hostname="a1-01",
    mac="52:54:00:aa:bb:01",
    address="10.77.0.11",
    prefix_length=24,
    gateway="10.77.0.1",
    dns=("10.77.0.1", "10.77.0.2"),
    host_private_key=PRIVATE,
    host_public_key="ssh-ed25519 AAAAC3host a1-01\n",
    authorized_keys=("ssh-ed25519 AAAAC3one operator\n", "ssh-rsa AAAAB3two other"),
)


def test_user_data_golden() -> None:
    assert render_user_data(SPEC) == (
        "#cloud-config\n"
        "disable_root: false\n"
        "ssh_authorized_keys:\n"
        '  - "ssh-ed25519 AAAAC3one operator"\n'
        '  - "ssh-rsa AAAAB3two other"\n'
        "write_files:\n"
        "  - path: /etc/resolv.conf\n"
        '    permissions: "0644"\n'
        "    content: |\n"
        "      nameserver 10.77.0.1\n"
        "      nameserver 10.77.0.2\n"
        "ssh_deletekeys: true\n"
        "ssh_keys:\n"
        '  ed25519_private: "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3BlbnNzaC1rZXk\\n'
        '-----END OPENSSH PRIVATE KEY-----\\n"\n'
        '  ed25519_public: "ssh-ed25519 AAAAC3host a1-01"\n'
    )


def test_user_data_golden_for_another_login_without_dns() -> None:
    spec = dataclasses.replace(SPEC, username="levier", dns=(), authorized_keys=("ssh-ed25519 AAAAC3one",))
    assert render_user_data(spec).startswith(
        "#cloud-config\n"
        "disable_root: true\n"
        "users:\n"
        '  - name: "levier"\n'
        "    lock_passwd: true\n"
        "    shell: /bin/bash\n"
        '    sudo: "ALL=(ALL) NOPASSWD:ALL"\n'
        "    ssh_authorized_keys:\n"
        '      - "ssh-ed25519 AAAAC3one"\n'
        "ssh_deletekeys: true\n"
    )


def test_meta_data_golden() -> None:
    assert render_meta_data(SPEC) == 'instance-id: "op-7-a1-01"\nlocal-hostname: "a1-01"\n'


def test_network_config_golden() -> None:
    assert render_network_config(SPEC) == (
        "version: 2\n"
        "ethernets:\n"
        "  provision:\n"
        "    match:\n"
        '      macaddress: "52:54:00:aa:bb:01"\n'
        "    dhcp4: false\n"
        "    dhcp6: false\n"
        "    accept-ra: false\n"
        "    addresses:\n"
        '      - "10.77.0.11/24"\n'
        "    routes:\n"
        "      - to: 0.0.0.0/0\n"
        '        via: "10.77.0.1"\n'
        "    nameservers:\n"
        "      addresses:\n"
        '        - "10.77.0.1"\n'
        '        - "10.77.0.2"\n'
    )


def test_network_config_without_gateway_and_dns_is_valid() -> None:
    spec = dataclasses.replace(SPEC, gateway="", dns=())
    interface = YAML(typ="safe").load(render_network_config(spec))["ethernets"]["provision"]
    assert interface["addresses"] == ["10.77.0.11/24"]
    assert "routes" not in interface
    assert "nameservers" not in interface


def test_seed_is_a_reproducible_tar_that_only_root_can_read() -> None:
    assert render_seed(SPEC) == render_seed(SPEC)
    with tarfile.open(fileobj=io.BytesIO(render_seed(SPEC))) as archive:
        files = {member.name: member for member in archive.getmembers() if member.isfile()}
        assert set(files) == {
            f"var/lib/cloud/seed/nocloud/{name}" for name in ("meta-data", "user-data", "network-config")
        }
        assert {(member.mode, member.uid, member.gid) for member in files.values()} == {(0o600, 0, 0)}
        assert archive.getmember("var/lib/cloud/seed/nocloud").mode == 0o700
        assert archive.extractfile("var/lib/cloud/seed/nocloud/user-data").read().decode() == render_user_data(SPEC)  # type: ignore[union-attr]


def test_repr_shows_no_private_key() -> None:
    assert "b3BlbnNzaC1rZXk" not in repr(SPEC)


@given(comment=st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40))
def test_no_key_comment_can_break_out_of_its_string(comment: str) -> None:
    spec = dataclasses.replace(SPEC, authorized_keys=(f"ssh-ed25519 AAAA {comment}",))
    if len(comment.splitlines()) > 1:
        return
    loaded = YAML(typ="safe").load(render_user_data(spec))
    assert loaded["ssh_authorized_keys"] == [f"ssh-ed25519 AAAA {comment}".strip()]
    assert loaded["ssh_keys"]["ed25519_private"] == PRIVATE


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"hostname": "A1_01"}, "no host name"),
        ({"mac": "52-54-00-AA-BB-01"}, "no MAC address"),
        ({"address": "10.77.0.300"}, "no address"),
        ({"prefix_length": 33}, "no address"),
        ({"gateway": "10.78.0.1"}, "outside"),
        ({"dns": ("resolver",)}, "no IP address"),
        ({"authorized_keys": ()}, "nobody can enter"),
        ({"authorized_keys": ("ssh-ed25519 AAAA\nssh-rsa BBBB",)}, "no OpenSSH public key"),
        ({"username": "root; reboot"}, "no user name"),
        ({"instance_id": " "}, "instance id"),
    ],
)
def test_what_cannot_work_is_refused(change: dict[str, object], cause: str) -> None:
    with pytest.raises(InvalidRequest, match=cause):
        dataclasses.replace(SPEC, **change)  # type: ignore[arg-type]


def test_a_host_key_cloud_init_cannot_place_is_refused() -> None:
    spec = dataclasses.replace(SPEC, host_public_key="ssh-dss AAAA")
    with pytest.raises(InvalidRequest, match="ssh-dss"):
        render_seed(spec)
