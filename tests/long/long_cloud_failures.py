"""What can go wrong with an installation, on a real cloud, and the way back to powered-off machines.

Each failure is made on the installed cloud, so that it takes a minute and not an installation. The tests are one story.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cloud.installation import CONTROLLER, FAR, NEAR, CloudInstallation, step_of
from tests.integration.cloud.seen_secrets import seen_secrets
from tests.integration.e2e.installation import installed
from tests.integration.e2e.terminal import Answer

pytestmark = [pytest.mark.root, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def rack() -> Iterator[CloudInstallation]:
    """The rack, powered off at first."""
    with installed(CloudInstallation) as rack:
        yield rack


@pytest.fixture(scope="module")
def without_far(rack: CloudInstallation) -> tuple[Answer, dict[str, Any]]:
    """The first installation, in which one compute host's image arrives corrupted."""
    rack.terminal.ok("lab", "inject", FAR, "image-corrupted", "--count", "all", "--name", rack.lab)
    try:
        return rack.install()
    finally:
        rack.terminal.ok("lab", "heal", FAR, "image-corrupted", "--name", rack.lab)


@pytest.fixture(scope="module")
def with_far(rack: CloudInstallation, without_far: object) -> dict[str, Any]:
    """The second installation, with which the host that had fallen came."""
    answer, operation = rack.install()
    assert answer.status == 0, answer.text[-4000:]
    return operation


@pytest.fixture(scope="module")
def cloud(rack: CloudInstallation, with_far: object) -> CloudInstallation:
    """The whole cloud."""
    return rack


def refused(cloud: CloudInstallation) -> tuple[str, dict[str, Any]]:
    """What a failing installation of the installed cloud said; it was undone, and nobody holds a node."""
    answer, operation = cloud.install()
    assert answer.status != 0
    assert operation["state"] == "rolled_back", answer.text[-3000:]
    assert not [node["operation"] for node in cloud.nodes().values() if node["operation"]]
    assert {node["state"] for node in cloud.nodes().values()} == {"in_service"}
    return answer.text, operation


def failed(operation: dict[str, Any]) -> list[tuple[str, str]]:
    """(step, host) of what went wrong."""
    return [(s["step"], s["target"]) for s in operation["steps"] if s["error"]]


def test_a_compute_host_that_falls_before_it_is_up_keeps_nobody_else(
    rack: CloudInstallation, without_far: tuple[Answer, dict[str, Any]]
) -> None:
    """Its address is free again while the others are being configured."""
    answer, operation = without_far
    assert answer.status != 0
    assert operation["state"] == "held", answer.text[-4000:]
    assert failed(operation) == [("write-image", FAR)]
    assert operation["outcomes"][FAR].startswith("undone")
    assert {operation["outcomes"][each] for each in (CONTROLLER, NEAR)} == {"ready"}
    assert step_of(operation, "smoke-check", NEAR)["result"]["address"]
    assert rack.nodes()[FAR]["address"] is None


def test_it_comes_with_the_next_installation_and_others_reach_it(
    cloud: CloudInstallation, with_far: dict[str, Any]
) -> None:
    assert step_of(with_far, "smoke-check", FAR)["result"]["address"]
    assert cloud.nodes()[FAR]["address"] in cloud.on(NEAR, "cat /etc/levier/openvswitch/bridges")


def test_an_unreachable_package_mirror_is_named(cloud: CloudInstallation) -> None:
    cloud.on(CONTROLLER, "systemctl stop memcached; DEBIAN_FRONTEND=noninteractive apt-get -qq -y purge memcached")
    dead = "http://10.77.0.1:9/debian"
    cloud.apply(cloud.changed(lambda site: site["site"]["packages"]["debian"].update(mirror=dead)))
    try:
        text, operation = refused(cloud)
    finally:
        cloud.apply(cloud.site)
    assert failed(operation) == [("install-packages", CONTROLLER)]
    assert "10.77.0.1:9" in text


@contextmanager
def without_its_release(cloud: CloudInstallation, host: str) -> Iterator[None]:
    """The host has lost the release: it lies aside, and is put back."""
    cloud.on(host, "mkdir /root/aside && mv /opt/levier/releases/2026.2* /root/aside/")
    try:
        yield
    finally:
        cloud.on(host, "rm -rf /opt/levier/releases/2026.2*; mv /root/aside/* /opt/levier/releases/; rmdir /root/aside")


def test_a_bundle_with_a_wrong_checksum_is_not_unpacked(cloud: CloudInstallation) -> None:
    bundle, whole = cloud.bundle, cloud.bundle.read_bytes()
    middle = len(whole) // 2
    with without_its_release(cloud, CONTROLLER):
        bundle.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
        try:
            text, operation = refused(cloud)
        finally:
            bundle.write_bytes(whole)
        assert "2026.2" not in cloud.on(CONTROLLER, "ls /opt/levier/releases")
    assert failed(operation) == [("unpack-bundle", CONTROLLER)]
    assert re.search("sha-?256|checksum", text, re.IGNORECASE)


def test_a_full_disk_is_told_with_figures(cloud: CloudInstallation) -> None:
    with without_its_release(cloud, CONTROLLER):
        spare = "$(( $(df --output=avail -B1 / | tail -1) - (200 << 20) ))"
        cloud.on(CONTROLLER, f"fallocate -l {spare} /root/ballast")
        try:
            text, operation = refused(cloud)
        finally:
            cloud.on(CONTROLLER, "rm -f /root/ballast")
    assert failed(operation) == [("unpack-bundle", CONTROLLER)]
    assert re.search(r"\d+ MiB", text)


def test_a_port_that_is_taken_is_named_with_its_program(cloud: CloudInstallation) -> None:
    cloud.on(CONTROLLER, "systemctl stop memcached; setsid python3 -m http.server 11211 >/dev/null 2>&1 </dev/null &")
    try:
        text, operation = refused(cloud)
    finally:
        cloud.on(CONTROLLER, "kill $(ss -Hltnp sport = :11211 | grep -o 'pid=[0-9]*' | cut -d= -f2)")
    assert failed(operation) == [("start-memcached", CONTROLLER)]
    assert "port 11211 is taken by python3" in text


def test_a_database_that_refuses_is_quoted(cloud: CloudInstallation) -> None:
    cloud.on(CONTROLLER, "mariadb -e \"ALTER USER 'placement'@'%' ACCOUNT LOCK\"")
    try:
        text, operation = refused(cloud)
    finally:
        cloud.on(CONTROLLER, "mariadb -e \"ALTER USER 'placement'@'%' ACCOUNT UNLOCK\"")
    assert failed(operation) == [("placement-schema", CONTROLLER)]
    assert "Access denied" in text


def test_a_message_queue_that_goes_down_in_the_middle(cloud: CloudInstallation) -> None:
    known = {o["id"] for o in cloud.get("/operations")}
    job = cloud.terminal.begin("install")
    identity = cloud.begun(known)
    cloud.reached(identity, "start-keystone", CONTROLLER, {"succeeded"})
    cloud.on(CONTROLLER, "systemctl stop rabbitmq-server")
    answer = cloud.terminal.ended(job)
    operation = cloud.operation(identity)
    assert answer.status != 0
    assert operation["state"] == "rolled_back"
    step, host = failed(operation)[0]
    assert step.startswith("message-queue-")
    assert host == CONTROLLER
    assert cloud.on(CONTROLLER, "systemctl is-active rabbitmq-server").strip() == "active", "as before the operation"


def test_a_compute_host_that_does_not_register_falls_alone(cloud: CloudInstallation) -> None:
    unit = "/etc/systemd/system/levier-nova-compute.service.d"
    override = "[Service]\\nExecStart=\\nExecStart=/bin/sleep infinity\\n"
    cloud.on(FAR, f"mkdir {unit} && printf '{override}' > {unit}/stuck.conf && systemctl daemon-reload")
    cloud.on(FAR, "systemctl restart levier-nova-compute")
    try:
        answer, operation = cloud.install()
    finally:
        cloud.on(FAR, f"rm -r {unit}; systemctl daemon-reload; systemctl restart levier-nova-compute")
    assert answer.status != 0
    assert operation["state"] == "held"
    assert failed(operation) == [("start-nova-compute", FAR)]
    assert f"nova-compute on {FAR} is not healthy" in answer.text
    assert operation["outcomes"][FAR].startswith("undone")
    assert {operation["outcomes"][each] for each in (CONTROLLER, NEAR)} == {"ready"}
    assert step_of(operation, "smoke-check", NEAR)["result"]["address"]


def test_a_compute_host_that_nova_does_not_hear_of_falls_alone(cloud: CloudInstallation) -> None:
    """It runs and talks to the message queue, where nobody listens to it."""
    cloud.on(
        CONTROLLER, "rabbitmqctl -q add_vhost aside && rabbitmqctl -q set_permissions -p aside nova '.*' '.*' '.*'"
    )
    unit, etc = "/etc/systemd/system/levier-nova-compute.service.d", "/etc/levier/nova-compute"
    command = (
        f"/opt/levier/current/nova-compute/bin/nova-compute --config-file {etc}/nova.conf --config-file {etc}/aside"
    )
    cloud.on(FAR, f"(echo '[DEFAULT]'; sed -n 's#^transport_url.*#&aside#p' {etc}/nova.conf) > {etc}/aside")
    cloud.on(FAR, f"chgrp nova {etc}/aside; chmod 640 {etc}/aside")
    cloud.on(FAR, f"mkdir {unit} && printf '[Service]\\nExecStart=\\nExecStart={command}\\n' > {unit}/aside.conf")
    cloud.on(FAR, "systemctl daemon-reload; systemctl restart levier-nova-compute")
    try:
        answer, operation = cloud.install()
    finally:
        cloud.on(FAR, f"rm -r {unit} {etc}/aside; systemctl daemon-reload; systemctl restart levier-nova-compute")
        cloud.on(CONTROLLER, "rabbitmqctl -q delete_vhost aside")
    assert answer.status != 0
    assert operation["state"] == "held"
    assert failed(operation) == [("compute-registered", FAR)]
    assert f"the compute host {FAR} did not register within" in answer.text
    assert operation["outcomes"][FAR].startswith("undone")
    assert {operation["outcomes"][each] for each in (CONTROLLER, NEAR)} == {"ready"}


def test_a_server_that_ends_in_error_is_told_with_novas_fault(cloud: CloudInstallation) -> None:
    # QEMU itself is whole, so that libvirt is healthy; no machine can start.
    firmware = "/usr/share/seabios/bios-256k.bin"
    cloud.on(FAR, f"mv {firmware} {firmware}.away")
    try:
        answer, operation = cloud.install()
    finally:
        cloud.on(FAR, f"mv {firmware}.away {firmware}")
    assert answer.status != 0
    assert operation["state"] == "held"
    assert failed(operation) == [("smoke-server", FAR)]
    assert f"the server on {FAR} is in ERROR" in answer.text
    assert "bios-256k.bin" in answer.text, "nova's fault, or the host's journal, names what is missing"
    assert {operation["outcomes"][each] for each in (CONTROLLER, NEAR)} == {"ready"}
    assert {node["state"] for node in cloud.nodes().values()} == {"in_service"}


def test_no_secret_was_seen_in_all_that(cloud: CloudInstallation) -> None:
    """What failed is quoted in errors, logs and journals; programs that fail like to say how they were configured."""
    assert seen_secrets(cloud) == []


# --- and back --------------------------------------------------------------------------------------------------------


def test_a_host_that_came_later_goes_alone(cloud: CloudInstallation, with_far: dict[str, Any], tmp_path: Path) -> None:
    cloud.terminal.ok("rollback", with_far["id"], timeout_s=900)
    assert {name: m["power"] for name, m in cloud.machines().items()} == {CONTROLLER: "on", NEAR: "on", FAR: "off"}
    assert not cloud.traces(FAR)
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")
    listed = cloud.openstack("compute", "service", "list", "-f", "json", cloud="ours", directory=tmp_path)
    hosts = {s["Host"]: s["Status"] for s in json.loads(listed) if s["Binary"] == "nova-compute"}
    assert hosts == {NEAR: "enabled"}, "nova has forgotten the other"


def test_a_host_that_carries_a_server_is_not_undone(
    cloud: CloudInstallation, without_far: tuple[Answer, dict[str, Any]], tmp_path: Path
) -> None:
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")
    cloud.openstack("volume", "create", "--size", "1", "kept", cloud="ours", directory=tmp_path)
    first = without_far[1]["id"]
    answer = cloud.terminal.run("rollback", first, timeout_s=600)
    assert answer.status != 0
    assert "volume kept" in answer.text
    for services, host in (("compute", NEAR), ("volume", f"{NEAR}@nfs")):
        listed = cloud.openstack(services, "service", "list", "-f", "json", cloud="ours", directory=tmp_path)
        assert {s["Host"] for s in json.loads(listed) if s["Status"] == "disabled"} == {host}, listed
    cloud.openstack("volume", "delete", "kept", cloud="ours", directory=tmp_path)
    cloud.terminal.ok("operation", "resume", first, timeout_s=900)
    assert {name: m["power"] for name, m in cloud.machines().items()} == dict.fromkeys(cloud.machine_names, "off")
    assert not cloud.traces(*cloud.machine_names)
