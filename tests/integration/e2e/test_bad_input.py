"""Bad input meets an error that names cause and way out, and changes nothing: the lab's ledger is the witness."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.integration.e2e.installation import IMAGE, Installation, Site
from tests.integration.e2e.ledger import Page
from tests.integration.e2e.shelf import spoilt_copy

pytestmark = [pytest.mark.root, pytest.mark.timeout(1800)]
GOOD, STRANGE, SMALL, SPOILT = "a1-01", "a1-02", "b1-01", "b1-02"
LOCKED_OUT, SILENT, SWAPPED, BYSTANDER = "a1-01", "a1-02", "b1-01", "b1-02"


def node_of(site: Site, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(n for n in site["nodes"] if n["name"] == name)
    return found


# --- what is refused before there is an operation --------------------------------------------------------------------


def expect_refusal(levier: Installation, *command: str, says: str, way_out: str) -> str:
    """The command is refused in these words, which are returned; no operation, no revision, no machine knows of it."""
    mark = levier.mark()
    before = levier.get("/operations"), levier.get("/site/revisions"), levier.get("/nodes")
    answer = levier.terminal.run(*command)
    assert answer.status == 1
    assert says in answer.err, answer.err
    assert way_out in answer.err, answer.err
    assert "Traceback" not in answer.text
    assert (levier.get("/operations"), levier.get("/site/revisions"), levier.get("/nodes")) == before
    assert not mark.page().events
    assert not levier.traces(GOOD, STRANGE, SMALL, SPOILT)
    return answer.err


def test_an_unknown_node(levier: Installation) -> None:
    expect_refusal(levier, "expand", "a1-01", "a1-99", says="a1-99", way_out="way out:")


def test_an_operation_that_is_not_there(levier: Installation) -> None:
    for command in ("operation show", "operation cancel", "operation resume", "operation watch", "rollback"):
        expect_refusal(levier, *command.split(), "expand-none", says="expand-none", way_out="way out:")


def _same_mac(site: Site) -> None:
    node_of(site, "a1-02")["nics"][0]["mac"] = node_of(site, "a1-01")["nics"][0]["mac"]


def _same_address(site: Site) -> None:
    for name in ("a1-01", "a1-02"):
        node_of(site, name)["nics"][0]["address"] = "10.77.0.50"


def _overlapping_ranges(site: Site) -> None:
    site["networks"][0]["host_range"] = {"start": "10.77.0.10", "end": "10.77.0.120"}


def _outside_of_the_network(site: Site) -> None:
    node_of(site, "a1-01")["nics"][0]["address"] = "10.78.0.50"


def _unknown_key(site: Site) -> None:
    node_of(site, "a1-01")["bmc"]["adress"] = "127.0.77.11"


def _unknown_zone(site: Site) -> None:
    site["racks"][0]["zone"] = "z"


@pytest.mark.parametrize(
    ("change", "path", "says", "right"),
    [
        (_same_mac, "nodes[1].nics[0].mac", "is already that of", "expected each only once"),
        (_same_address, "nodes[1].nics[0].address", "10.77.0.50 is already that of", "expected each only once"),
        (_overlapping_ranges, "networks[0].host_range", "overlaps the dhcp_range", "expected ranges without"),
        (_outside_of_the_network, "nodes[0].nics[0].address", "10.78.0.50 is outside of", "expected 10.77.0."),
        (_unknown_key, "nodes[0].bmc.adress", "unknown key", "did you mean 'address'?"),
        (_unknown_zone, "racks[0].zone", "there is no zone named 'z'", "expected one of a, b"),
    ],
)
def test_a_faulty_site_file(
    levier: Installation, change: Callable[[Site], None], path: str, says: str, right: str
) -> None:
    file = levier.changed_site(change)
    for verb in ("validate", "apply"):
        assert f": {path}: " in expect_refusal(levier, "site", verb, str(file), says=says, way_out=right)
    told = levier.terminal.run("site", "validate", str(file), "--json")
    problem = json.loads(told.out)["problems"][0]
    assert problem["path"] == path
    written = file.read_text().splitlines()[problem["line"] - 1]
    assert path.rpartition(".")[2].partition("[")[0] in written or "start" in written, "the line is the right one"


def test_all_faults_of_a_site_file_at_once(levier: Installation) -> None:
    def change(site: Site) -> None:
        _same_mac(site)
        _overlapping_ranges(site)
        _unknown_key(site)

    told = levier.terminal.run("site", "validate", str(levier.changed_site(change)))
    assert told.status == 1
    assert len(told.err.strip().splitlines()) == 3, told.err


def test_a_credential_that_is_not_stored(levier: Installation) -> None:
    site = levier.changed(lambda site: node_of(site, "a1-01")["bmc"].update(credential="elsewhere"))
    levier.apply(site)
    expect_refusal(levier, "expand", "a1-01", says="no secret named 'elsewhere'", way_out="levier secret set elsewhere")


def test_an_image_that_is_not_the_pinned_one(levier: Installation) -> None:
    levier.apply(levier.changed(lambda site: site["images"][0].update(sha256="0" * 64)))
    expect_refusal(levier, "expand", "a1-01", says=f"the site file pins {'0' * 64}", way_out="images[debian-12].sha256")


# --- what only the BMCs tell -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ended:
    """An operation on machines that cannot all be deployed, and what happened to them."""

    levier: Installation
    answer: str
    operation: dict[str, Any]
    page: Page

    def step(self, name: str, node: str) -> dict[str, Any]:
        found: dict[str, Any] = next(s for s in self.operation["steps"] if (s["step"], s["target"]) == (name, node))
        return found

    def outcome(self, node: str) -> str:
        return str(self.operation["outcomes"][node])


def expanded(levier: Installation, change: Callable[[Site], None], *nodes: str) -> Ended:
    """`levier expand` of `nodes` on the changed site came to an end that is no success."""
    levier.apply(levier.changed(change))
    mark = levier.mark()
    answer = levier.terminal.run("expand", *nodes)
    assert answer.status == 1, answer.text[-2000:]
    return Ended(levier, answer.text, levier.newest_operation(), mark.page())


@pytest.fixture(scope="module")
def bad_bmcs(installation: Installation) -> Iterator[Ended]:
    credentials = json.dumps({"username": "admin", "password": "not-the-password"})
    installation.terminal.ok("secret", "set", "wrong-bmc", "--stdin-json", stdin=credentials)

    def change(site: Site) -> None:
        node_of(site, LOCKED_OUT)["bmc"]["credential"] = "wrong-bmc"
        node_of(site, SILENT)["bmc"] |= {"address": "127.0.77.200", "timeout_s": 1.0}
        node_of(site, SWAPPED)["serial"] = "LV-another-0001"

    yield expanded(installation, change, LOCKED_OUT, SILENT, SWAPPED)
    installation.terminal.ok("secret", "delete", "wrong-bmc")
    installation.come_to_rest()


def test_a_wrong_password_is_tried_once(bad_bmcs: Ended) -> None:
    attempts = bad_bmcs.page.of(LOCKED_OUT).kind("bmc-auth-failed")
    assert len(attempts) == 1, "a second attempt may lock the account"
    assert bad_bmcs.step("verify-bmc", LOCKED_OUT)["attempts"] == 1
    assert bad_bmcs.step("verify-bmc", LOCKED_OUT)["error"].startswith("AuthFailed: ")
    assert "levier secret set wrong-bmc" in bad_bmcs.step("verify-bmc", LOCKED_OUT)["hint"]
    assert bad_bmcs.outcome(LOCKED_OUT).startswith("undone: verify-bmc: ")
    assert bad_bmcs.page.of(LOCKED_OUT).commands() == []


def test_a_silent_bmc_is_tried_again_and_named(bad_bmcs: Ended) -> None:
    step = bad_bmcs.step("verify-bmc", SILENT)
    assert step["attempts"] == 4
    assert step["error"].startswith("Unreachable: ")
    assert "127.0.77.200" in step["error"]
    assert step["hint"]
    assert not bad_bmcs.page.of(SILENT).events


def test_another_serial_number_is_another_machine(bad_bmcs: Ended) -> None:
    step = bad_bmcs.step("match-site", SWAPPED)
    serial = bad_bmcs.levier.machines()[SWAPPED]["serial"]
    assert f"its BMC reports the serial number {serial}, the site file says LV-another-0001" in step["error"]
    assert f"correct nodes[{SWAPPED}].serial" in step["hint"]
    assert step["attempts"] == 1


def test_no_machine_was_touched(bad_bmcs: Ended) -> None:
    assert bad_bmcs.page.touches() == []
    assert "Get Chassis Status" in bad_bmcs.page.of(SWAPPED).commands(), "it was looked at"
    assert bad_bmcs.operation["state"] == "rolled_back"
    assert bad_bmcs.operation["stands"] == []
    assert bad_bmcs.levier.traces(LOCKED_OUT, SILENT, SWAPPED) == []
    known = bad_bmcs.levier.nodes()
    assert {known[n]["state"] for n in (LOCKED_OUT, SILENT, SWAPPED)} == {"enrolled"}
    assert {known[n]["operation"] for n in (LOCKED_OUT, SILENT, SWAPPED)} == {None}
    for node in (LOCKED_OUT, SILENT, SWAPPED):
        assert f"{node:<10} undone: " in bad_bmcs.answer, "the terminal says which and why"


# --- what only the machine itself tells ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mixed(installation: Installation) -> Iterator[Ended]:
    """One good machine among three that turn out not to be right once their ramdisk looks at them."""
    disk = installation.rack.layout.disk(SMALL)
    size_bytes = disk.stat().st_size
    os.truncate(disk, 512 << 20)
    spoilt = spoilt_copy(installation.images / IMAGE, as_name="spoilt")

    def change(site: Site) -> None:
        node_of(site, STRANGE)["root_device"] = {"serial": "LVD9999"}
        site["images"].append({"name": spoilt})
        node_of(site, SPOILT)["image"] = spoilt

    yield expanded(installation, change, GOOD, STRANGE, SMALL, SPOILT)
    installation.come_to_rest()
    os.truncate(disk, size_bytes)


def test_a_failing_node_is_undone_and_its_siblings_are_not(mixed: Ended) -> None:
    assert mixed.operation["state"] == "held"
    assert mixed.outcome(GOOD) == "ready"
    assert {mixed.outcome(n).partition(":")[0] for n in (STRANGE, SMALL, SPOILT)} == {"undone"}
    known, machines = mixed.levier.nodes(), mixed.levier.machines()
    assert (known[GOOD]["state"], machines[GOOD]["power"]) == ("ready", "on")
    for node in (STRANGE, SMALL, SPOILT):
        assert (known[node]["state"], known[node]["address"], known[node]["os"]) == ("enrolled", None, None)
        assert (machines[node]["power"], machines[node]["boot_device"]) == ("off", "none")
        assert f"{node:<10} undone: " in mixed.answer
    assert {target.partition(" ")[2] for target in mixed.operation["stands"]} == {GOOD}
    assert mixed.levier.traces(STRANGE, SMALL, SPOILT) == []
    assert len(mixed.levier.traces(GOOD)) == 1, "the good host's address"
    page = mixed.page
    assert page.of(GOOD).booted_from() == ["pxe", "disk"]
    for node in (STRANGE, SMALL, SPOILT):
        assert page.of(node).powered_on() == 1
        assert page.of(node).booted_from() == ["pxe"], "such a disk is never booted"
        assert page.of(node).kind("power")[-1]["detail"]["to"] == "off"


def test_hints_that_match_no_disk(mixed: Ended) -> None:
    step = mixed.step("await-agent", STRANGE)
    assert "no disk matches the root device hints (serial=LVD9999)" in step["error"]
    assert "vda" in step["error"], "it names the disks that there are"
    assert "site file" in step["hint"]
    assert not mixed.page.of(STRANGE).kind("disk-write")


def test_a_disk_too_small(mixed: Ended) -> None:
    step = mixed.step("await-agent", SMALL)
    assert "too small: the image needs" in step["error"]
    assert "0.50 GiB" in step["error"]
    assert not mixed.page.of(SMALL).kind("disk-write")


def test_an_image_whose_checksum_differs(mixed: Ended) -> None:
    step = mixed.step("write-image", SPOILT)
    assert step["error"].startswith("Rejected: ")
    assert "checksum mismatch" in step["error"]
    assert step["attempts"] == 1
    assert step["hint"]
    assert not mixed.page.of(SPOILT).kind("os-start")


def test_a_held_operation_can_be_rolled_back(mixed: Ended) -> None:
    """Runs last in this file."""
    rolled_back = mixed.levier.terminal.json("rollback", mixed.operation["id"])
    assert (rolled_back["state"], rolled_back["stands"]) == ("rolled_back", [])
    assert mixed.levier.machines()[GOOD]["power"] == "off"
    assert mixed.levier.traces(GOOD) == []
