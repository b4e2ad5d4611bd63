"""From powered off to a cloud whose servers answered, what it gives its operators, and its failures, on real machines.

The tests are one story and build on each other: an installation takes minutes.
"""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.integration.cloud.installation import CONTROLLER, FAR, NEAR, CloudInstallation
from tests.integration.e2e.installation import Site

pytestmark = [pytest.mark.root, pytest.mark.timeout(2400)]

PUBLIC = {"public", "operation", "certificate", "id"}
"""Parts of secrets that anybody may know."""
CHANGES_NOTHING = "Nothing was changed"


@pytest.fixture(scope="module")
def seen_processes() -> list[bytes]:
    """Command lines of everything on this computer, machines of the rack included, while the cloud was installed."""
    return []


@pytest.fixture(scope="module")
def cloud(rack: CloudInstallation, seen_processes: list[bytes]) -> CloudInstallation:
    """The installed cloud."""
    with watched(seen_processes):
        answer, operation = rack.install()
    assert answer.status == 0, answer.text[-4000:]
    assert operation["state"] == "succeeded"
    return rack


@contextmanager
def watched(lines: list[bytes]) -> Iterator[None]:
    """Collects the command lines of all processes until the block ends."""
    over, seen = threading.Event(), set[bytes]()

    def look() -> None:
        while not over.wait(0.2):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(path.read_bytes())
                except OSError:
                    continue  # it ended meanwhile

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        lines += seen


def step_of(operation: dict[str, Any], step: str, host: str) -> dict[str, Any]:
    """The step as the API shows it."""
    return next(s for s in operation["steps"] if (s["step"], s["target"]) == (step, host))


# --- before ----------------------------------------------------------------------------------------------------------


def test_the_plan_is_shown_and_nothing_is_touched(rack: CloudInstallation) -> None:
    mark = rack.mark()
    stages = rack.terminal.json("install", "--dry-run")
    order = [step for stage in stages for group in stage["steps"] for step in group["steps"]]
    wanted = ["write-image", "install-packages", "unpack-bundle", "start-mariadb", "keystone-schema", "start-keystone"]
    wanted += ["catalog-nova-api", "nova-api-cell1", "start-nova-compute", "nova-api-discover-hosts", "smoke-server"]
    assert [step for step in dict.fromkeys(order) if step in wanted] == wanted
    assert all(stage["estimate_s"] > 0 for stage in stages)
    assert mark.page().events == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda site: site.pop("release"), "names no release"),
        (lambda site: [node.update(roles=["compute"]) for node in site["nodes"]], "the site cannot work"),
        (lambda site: [node.update(roles=[]) for node in site["nodes"]], "no node has a role"),
        (lambda site: site.update(release="2026.2.1"), "levier release build 2026.2.1"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_touched(
    rack: CloudInstallation, change: Callable[[Site], object], why: str
) -> None:
    before = rack.terminal.json("operation", "list")
    rack.apply(rack.changed(change))
    try:
        answer = rack.terminal.run("install")
    finally:
        rack.apply(rack.site)
    assert answer.status == 1
    assert why in answer.text
    assert rack.terminal.json("operation", "list") == before


# --- the cloud -------------------------------------------------------------------------------------------------------


def test_from_powered_off_to_the_smoke_test(cloud: CloudInstallation) -> None:
    operation = cloud.newest_operation()
    assert {node["state"] for node in cloud.nodes().values()} == {"in_service"}
    assert {m["image_writes"] for m in cloud.machines().values()} == {1}
    for host, other in ((NEAR, FAR), (FAR, NEAR)):
        result = step_of(operation, "smoke-check", host)["result"]
        assert result["address"] != step_of(operation, "smoke-check", other)["result"]["address"]
        assert list(result["peers"].values()) == ["ping=ok http=ok"]
        assert result["screen"]
    assert "written, read back" in step_of(operation, "smoke-check", NEAR)["result"]["volume"]
    assert step_of(operation, "smoke-remove", CONTROLLER)["result"]["left"] == []


def test_no_secret_is_seen(cloud: CloudInstallation, seen_processes: list[bytes]) -> None:
    values = {what: v for what, v in cloud.secrets().items() if len(v) >= 16 and what.split()[1] not in PUBLIC}
    assert {"keystone.admin password", "nova.database password", "cloud.access secret"} <= values.keys()
    assert len(seen_processes) > 100
    assert any(b"nova-manage" in line for line in seen_processes), "processes of the hosts are seen"
    files = [path for path in cloud.state_dir.rglob("*") if path.is_file() and path.name != "api-token"]
    contents = {str(path): path.read_bytes() for path in files} | {"a process": b"\n".join(seen_processes)}
    assert not [
        (name, what) for name, content in contents.items() for what, v in values.items() if v.encode() in content
    ]


def test_files_with_secrets_are_for_their_service_only(cloud: CloudInstallation) -> None:
    values = [v.splitlines()[0] for what, v in cloud.secrets().items() if what.endswith(" password") and len(v) >= 16]
    script = "grep -rlF -f - /etc /var/lib/nova /var/lib/levier 2>/dev/null | xargs -r stat -c '%a %n'"
    for host in (CONTROLLER, NEAR):
        found = [line.split(" ", 1) for line in cloud.on(host, script, stdin="\n".join(values)).splitlines()]
        assert found, f"no file of {host} holds a password: the search is wrong"
        assert [name for mode, name in found if int(mode, 8) & 0o137] == []


def test_the_operator_gets_in_by_tls(cloud: CloudInstallation, tmp_path: Path) -> None:
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")
    assert (tmp_path / "clouds.yaml").stat().st_mode & 0o777 == 0o600
    entry = YAML(typ="safe").load((tmp_path / "clouds.yaml").read_text())["clouds"]["ours"]
    assert entry["auth"]["auth_url"].startswith("https://")
    listed = json.loads(cloud.openstack("hypervisor", "list", "-f", "json", cloud="ours", directory=tmp_path))
    assert {(each["Hypervisor Hostname"], each["State"]) for each in listed} == {(NEAR, "up"), (FAR, "up")}
    zones = json.loads(cloud.openstack("availability", "zone", "list", "-f", "json", cloud="ours", directory=tmp_path))
    assert {"a", "b"} <= {each["Zone Name"] for each in zones}
    # The site's authority is what makes it trusted: without it nobody is.
    curl = ["curl", "--silent", "--show-error", entry["auth"]["auth_url"]]
    inside = ["ip", "netns", "exec", f"levier-{cloud.lab}"]
    assert subprocess.run([*inside, *curl], capture_output=True, check=False).returncode == 60
    trusted = subprocess.run([*inside, *curl, "--cacert", entry["cacert"]], capture_output=True, check=True)
    assert json.loads(trusted.stdout)["version"]["id"].startswith("v3")


def test_again_changes_nothing_and_says_so(cloud: CloudInstallation) -> None:
    answer, operation = cloud.install()
    assert answer.status == 0
    assert CHANGES_NOTHING in answer.out
    assert not [(s["step"], s["changed"]) for s in operation["steps"] if s["changed"]]


# --- failures --------------------------------------------------------------------------------------------------------


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


# --- and back --------------------------------------------------------------------------------------------------------


def test_a_host_that_carries_a_server_is_not_undone(cloud: CloudInstallation, tmp_path: Path) -> None:
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")
    cloud.openstack("volume", "create", "--size", "1", "kept", cloud="ours", directory=tmp_path)
    first = next(o["id"] for o in cloud.get("/operations") if o["kind"] == "install" and o["state"] == "succeeded")
    answer = cloud.terminal.run("rollback", first, timeout_s=600)
    assert answer.status != 0
    assert "volume kept" in answer.text
    cloud.openstack("volume", "delete", "kept", cloud="ours", directory=tmp_path)
    cloud.terminal.ok("operation", "resume", first, timeout_s=900)
    assert {name: m["power"] for name, m in cloud.machines().items()} == dict.fromkeys(cloud.machine_names, "off")
    assert not cloud.traces(*cloud.machine_names)
