"""From powered off to a cloud whose servers answered, and what it gives its operators, on real machines.

The tests are one story and build on each other: an installation takes minutes. Its failures, and the way back, are in
tests/long/long_cloud_failures.py.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.integration.cloud.installation import CONTROLLER, FAR, NEAR, OWN_KERNEL, CloudInstallation, step_of
from tests.integration.cloud.seen_secrets import needles, seen_secrets
from tests.integration.e2e.installation import Site
from tests.integration.e2e.terminal import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(2400)]

AGENT = "neutron-openvswitch-agent"
CHANGES_NOTHING = "Nothing was changed"
AS_IT_IS = (
    "find /etc -xdev -type f ! -name '*.lock' -exec sha256sum {} + | sort -k 2\n"
    "find /etc /opt/levier/current -xdev -type l -printf '%p %l\\n' | sort\n"
    "systemctl show -p Id,InvocationID 'levier-*' mariadb rabbitmq-server memcached libvirtd openvswitch-switch"
)
"""Files of a host, and which start of its services this is."""


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


def test_the_emulated_host_came_up_with_its_own_kernel_and_everything_from_its_image(cloud: CloudInstallation) -> None:
    operation = cloud.newest_operation()
    assert {m["name"]: m["chassis"] for m in cloud.machines().values()}[OWN_KERNEL] == "qemu"
    assert cloud.on(OWN_KERNEL, "uname -r") != cloud.on(NEAR, "uname -r")
    assert "system@" in cloud.on(OWN_KERNEL, "ovs-appctl dpif/show")
    assert "netdev@" in cloud.on(NEAR, "ovs-appctl dpif/show")
    assert not step_of(operation, "install-packages", OWN_KERNEL)["changed"]
    assert step_of(operation, "install-packages", NEAR)["changed"]
    result = step_of(operation, "smoke-server", OWN_KERNEL)["result"]
    assert result["server"]
    assert {*result["not_checked"].values()} == {"the hypervisor is fake: no server really runs"}


def test_the_agent_knows_a_switch_of_which_a_slow_host_tells_too_early(cloud: CloudInstallation) -> None:
    """With os_ken as it is the same switch is lost, and nobody says so."""
    script = (Path(__file__).parent / "slow_switch.py").read_text()
    cloud.on(NEAR, "mkdir /run/slow-switch && cat > /run/slow-switch/slow_switch.py", stdin=script)
    python, agent = f"/opt/levier/current/{AGENT}/bin/python", f"/etc/levier/{AGENT}/agent.py"
    seen = cloud.on(NEAR, f"cd /run/slow-switch && {python} slow_switch.py && {python} slow_switch.py {agent}")
    cloud.on(NEAR, "rm -r /run/slow-switch")
    assert seen.split() == ["lost", "known"]


def test_no_secret_is_seen(cloud: CloudInstallation, seen_processes: list[bytes]) -> None:
    looked_for = set(needles(cloud.secrets()).values())
    assert {"keystone.admin password", "nova.database password", "cloud.access secret"} <= looked_for
    assert {"site.ca key", "haproxy.certificate pem"} <= looked_for
    assert len(seen_processes) > 100
    assert any(b"nova-manage" in line for line in seen_processes), "processes of the hosts are seen"
    assert seen_secrets(cloud, seen_processes) == []


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
    assert {(each["Hypervisor Hostname"], each["State"]) for each in listed} == {
        (NEAR, "up"),
        (FAR, "up"),
        (OWN_KERNEL, "up"),
    }
    zones = json.loads(cloud.openstack("availability", "zone", "list", "-f", "json", cloud="ours", directory=tmp_path))
    assert {"a", "b"} <= {each["Zone Name"] for each in zones}
    # The site's authority is what makes it trusted: without it nobody is.
    curl = ["curl", "--silent", "--show-error", entry["auth"]["auth_url"]]
    inside = ["ip", "netns", "exec", f"levier-{cloud.lab}"]
    assert subprocess.run([*inside, *curl], capture_output=True, check=False).returncode == 60
    trusted = subprocess.run([*inside, *curl, "--cacert", entry["cacert"]], capture_output=True, check=True)
    assert json.loads(trusted.stdout)["version"]["id"].startswith("v3")


def test_a_component_that_is_not_shipped_is_installed_like_the_others(cloud: CloudInstallation, tmp_path: Path) -> None:
    """It is a folder (components/notice): a database, a secret, a unit, a place in the catalogue, TLS in front."""
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")
    listed = json.loads(cloud.openstack("endpoint", "list", "-f", "json", cloud="ours", directory=tmp_path))
    (public,) = [e["URL"] for e in listed if (e["Service Name"], e["Interface"]) == ("notice", "public")]
    authority = YAML(typ="safe").load((tmp_path / "clouds.yaml").read_text())["clouds"]["ours"]["cacert"]
    curl = ["ip", "netns", "exec", f"levier-{cloud.lab}", "curl", "-sS", "--cacert", authority, public]
    assert subprocess.run(curl, capture_output=True, check=True).stdout == b"<p>All is well</p>\n"
    assert "reader" in cloud.on(CONTROLLER, "mariadb -e 'SHOW TABLES' notice")
    (shown,) = cloud.terminal.json("config", "show", CONTROLLER, "notice")["components"]
    (file,) = (each for each in shown["files"] if each["path"].endswith("notice.conf"))
    assert "connection = mysql+pymysql://notice:***@" in file["content"]
    assert shown["written"], "the installation kept what it wrote"


def test_again_changes_nothing_and_says_so(cloud: CloudInstallation) -> None:
    before = {host: cloud.on(host, AS_IT_IS) for host in cloud.machine_names}
    assert all("levier-" in seen for seen in before.values())
    answer, operation = cloud.install()
    assert answer.status == 0
    assert CHANGES_NOTHING in answer.out
    assert not [(s["step"], s["changed"]) for s in operation["steps"] if s["changed"]]
    assert {host: cloud.on(host, AS_IT_IS) for host in cloud.machine_names} == before
    kept = {host: cloud.on(host, f"find /var/lib/levier/kept/{operation['id']} 2>&1 || true") for host in before}
    assert all("No such file" in found for found in kept.values()), kept


def test_an_installation_that_is_broken_off_leaves_what_was_set_and_what_users_made(
    cloud: CloudInstallation, tmp_path: Path
) -> None:
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")

    def ask(*words: str) -> Any:
        return json.loads(cloud.openstack(*words, "-f", "json", cloud="ours", directory=tmp_path))

    def lifetime_s() -> float:
        return (datetime.fromisoformat(ask("token", "issue")["expires"]) - datetime.now(UTC)).total_seconds()

    known = {each["id"] for each in cloud.get("/operations")}
    cloud.apply(cloud.changed(lambda site: site["settings"].update({"keystone": {"token_lifetime_s": 7200}})))
    try:
        cloud.terminal.ok("install", "--detach")
        identity = cloud.begun(known)
        until(
            lambda: cloud.steps(identity)["start-neutron-server", CONTROLLER]["state"] == "succeeded",
            what="neutron was looked at",
            timeout_s=cloud.patience_s,
        )
        assert lifetime_s() > 3600, "the new setting is in force"
        ask("network", "create", "made-meanwhile")
        cloud.terminal.ok("operation", "cancel", identity, timeout_s=cloud.patience_s)
    finally:
        cloud.apply(cloud.site)
    operation = cloud.operation(identity)
    assert (operation["state"], operation["stands"]) == ("cancelled", [])
    assert lifetime_s() <= 3600, "the earlier setting is in force"
    assert "made-meanwhile" in {each["Name"] for each in ask("network", "list")}
    cloud.openstack("network", "delete", "made-meanwhile", cloud="ours", directory=tmp_path)
    assert {node["state"] for node in cloud.nodes().values()} == {"in_service"}
