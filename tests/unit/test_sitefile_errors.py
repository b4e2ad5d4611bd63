"""Every kind of bad input meets one clear error at its line and column."""

# ruff: noqa: E501 - a table is read best with one case a line

from __future__ import annotations

import pytest

from levier.domain.errors import InvalidRequest
from levier.domain.problems import render_problems
from tests.unit.site_samples import SAMPLE, edited, load, position_of, refusal

NODE_A, NODE_B = "name: a1-01", "name: b1-01"
LAST_NIC = '{name: eth0, mac: "52:54:00:00:00:03", network: provisioning}'

# (case, old, new, where the error points, path, words of the message, words of what would be right)
CASES: list[tuple[str, str, str, str, str, str, str]] = [
    ("unknown key", "address: 127.0.77.12", "adress: 127.0.77.12, address: 127.0.77.12", "adress", "nodes[1].bmc.adress", "unknown key", "did you mean 'address'?"),
    ("unknown section", "images:\n", "imges: []\nimages:\n", "imges", "imges", "unknown key", "did you mean 'images'?"),
    ("password in the file", "credential: lab-bmc}\n    nics:\n      - {name: eth0, mac: \"52:54:00:00:00:03\"", "credential: lab-bmc, password: s3cret}\n    nics:\n      - {name: eth0, mac: \"52:54:00:00:00:03\"", "password:", "nodes[1].bmc.password", "a secret does not belong", "levier secret set NAME"),
    ("missing key", "    image: debian-12\n    bmc:", "    bmc:", NODE_B, "nodes[1].image", "is missing", "a name under `images`"),
    ("port in quotes", "port: 6230", 'port: "6230"', '"6230"', "nodes[0].bmc.port", "'6230' is not a whole number", "a whole number"),
    ("port too large", "port: 6230", "port: 70000", "70000", "nodes[0].bmc.port", "70000 is out of bounds", "at most 65535"),
    ("number for a text", "serial: LV-0001", "serial: 0x12AB", "0x12AB", "nodes[0].serial", "is not a text", '"0x12AB"'),
    ("label is a number", "tier: gold", "tier: 007", "007", "nodes[0].labels.tier", "is not a text", '"007"'),
    ("placeholder serial", "serial: LV-0001", "serial: To be filled by O.E.M.", "To be filled", "nodes[0].serial", "identifies no machine", "leave the key out"),
    ("list for a mapping", "    root_device: {serial: ROOT-1}", "    root_device: [ROOT-1]", "[ROOT-1]", "nodes[0].root_device", "a list is not a mapping", "expected a mapping"),
    ("mapping for a list", "roles: [compute]", "roles: {compute: true}", "{compute", "nodes[0].roles", "a mapping is not a list", "expected a list"),
    ("null list", "roles: [compute]", "roles:", "roles:", "nodes[0].roles", "is empty, not a list", "expected a list"),
    ("unknown role", "roles: [compute]", "roles: [compte]", "compte", "nodes[0].roles[0]", "'compte' is not known here", "did you mean 'compute'?"),
    ("role twice", "roles: [compute]", "roles: [compute, compute]", "[compute, compute]", "nodes[0].roles", "compute is given more than once", "each role once"),
    ("unknown driver", "driver: ipmi, address: 127.0.77.12", "driver: idrac, address: 127.0.77.12", "idrac", "nodes[1].bmc.driver", "'idrac' is not known here", "expected one of ipmi"),
    ("upper case host name", NODE_B, "name: B1_01", "B1_01", "nodes[1].name", "is not a host name", "RFC 1123"),
    ("host name ends in hyphen", NODE_B, "name: b1-", "b1-", "nodes[1].name", "is not a host name", "no hyphen at either end"),
    ("host name of digits", NODE_B, 'name: "101"', '"101"', "nodes[1].name", "reads as an address", "at least one letter"),
    ("host name too long", NODE_B, f"name: {'x' * 64}", "x" * 64, "nodes[1].name", "is not a host name", "1 to 63"),
    ("invalid MAC", "52:54:00:00:00:03", "52:54:00:00:00", '"52:54:00:00:00"', "nodes[1].nics[0].mac", "is not a MAC address", "six octets"),
    ("multicast MAC", "52:54:00:00:00:03", "53:54:00:00:00:03", '"53:54', "nodes[1].nics[0].mac", "multicast", "even first octet"),
    ("null MAC", "52:54:00:00:00:03", "00:00:00:00:00:00", '"00:00', "nodes[1].nics[0].mac", "null address", "printed on the NIC"),
    ("not an address", "gateway: 10.77.0.1\n", "gateway: 10.77.0.256\n", "10.77.0.256", "networks[0].gateway", "is not an IPv4 address", "four numbers"),
    ("address as a number", "gateway: 10.77.0.1\n", "gateway: 10.77\n", "10.77\n", "networks[0].gateway", "10.77 is not a text", "an IPv4 address"),
    ("BMC address is neither", "address: 127.0.77.12", "address: 127.0.77.1200", "127.0.77.1200", "nodes[1].bmc.address", "neither an address nor a host name", "10.0.8.21"),
    ("host bits in a CIDR", "cidr: 10.78.0.0/24", "cidr: 10.78.0.1/24", "10.78.0.1/24", "networks[1].cidr", "bits set", "did you mean '10.78.0.0/24'?"),
    ("CIDR without prefix", "cidr: 10.78.0.0/24", "cidr: 10.78.0.0", "10.78.0.0", "networks[1].cidr", "no prefix length", "10.77.0.0/24"),
    ("unknown time zone", "Etc/UTC", "Europe/Pariss", "Europe/Pariss", "site.timezone", "is not a time zone", "did you mean 'Europe/Paris'?"),
    ("private key", "timezone: Etc/UTC}", 'authorized_keys: ["-----BEGIN OPENSSH PRIVATE KEY-----"]}', '"-----BEGIN', "site.authorized_keys[0]", "PRIVATE key", "public key"),
    ("cut-off public key", "timezone: Etc/UTC}", "authorized_keys: [ssh-ed25519 AAAAC3NzaC1lZDI1NTE5]}", "ssh-ed25519", "site.authorized_keys[0]", "not complete", ".pub"),
    ("sysctl name", "timezone: Etc/UTC}", "sysctl: {ip_forward: 1}}", "ip_forward", "site.sysctl.ip_forward", "is not a sysctl name", "net.ipv4.ip_forward"),
    ("sysctl of true", "timezone: Etc/UTC}", "sysctl: {net.ipv4.ip_forward: true}}", "true", 'site.sysctl["net.ipv4.ip_forward"]', "true is not a text", '"true"'),
    ("digest", "  - name: debian-12\n", "  - {name: debian-12, sha256: ABC}\n", "ABC", "images[0].sha256", "is not a SHA-256 digest", "64 lower-case"),
    ("negative interval", "port: 6230", "min_interval_s: -1", "-1, cred", "nodes[0].bmc.min_interval_s", "-1 is out of bounds", "at least 0"),
    ("time-out not finite", "port: 6230", "timeout_s: .nan", ".nan", "nodes[0].bmc.timeout_s", "finite", ""),
    ("no NICs", f"\n      - {LAST_NIC}", " []", "[]", "nodes[1].nics", "the list is empty", "at least 1"),
    ("yes is no boolean", "{serial: ROOT-1}", "{rotational: yes}", "yes", "nodes[0].root_device.rotational", "'yes' is not true or false", "expected true or false"),
    ("hint name", "{serial: ROOT-1}", "{name: /dev/disk/by-id/x}", "/dev/disk", "nodes[0].root_device.name", "kernel's name", "sda or nvme0n1"),
    ("login in a mirror's URL", "timezone: Etc/UTC}", "packages: {debian: {mirror: 'http://me:pw@m.example/debian'}}}", "'http://me", "site.packages.debian.mirror", "a login does not belong", "which needs none"),
    ("mirror by FTP", "timezone: Etc/UTC}", "packages: {debian: {mirror: 'ftp://m.example/debian'}}}", "'ftp:", "site.packages.debian.mirror", "is not the URL of an HTTP server", "http://mirror.example/debian"),
    ("neither mirror nor proxy", "timezone: Etc/UTC}", "packages: {debian: {}}}", "{}}}", "site.packages.debian", "neither a mirror nor a proxy", "`mirror:` or `proxy:`"),
    ("security mirror alone", "timezone: Etc/UTC}", "packages: {debian: {proxy: 'http://p:1', security_mirror: 'http://m/s'}}}", "{proxy", "site.packages.debian", "without a mirror", "`mirror:` besides"),
    ("component twice", "timezone: Etc/UTC}", "packages: {debian: {mirror: 'http://m/d', components: [main, main]}}}", "[main", "site.packages.debian.components", "main is given more than once", "once"),
    ("distribution without a driver", "timezone: Etc/UTC}", "packages: {debain: {}}}", "debain", "site.packages.debain", "unknown key", "did you mean 'debian'?"),
    # between entries
    ("duplicate node", NODE_B, NODE_A, NODE_A.removeprefix("name: "), "nodes[1].name", "the name a1-01 is already that of nodes[0] (a1-01) (line 20)", "only once"),
    ("duplicate zone", "{name: b}]", "{name: a}, {name: b}]", "a}, {name: b}]\nracks", "zones[1].name", "the name a is already that of zones[0]", "only once"),
    ("duplicate NIC name", "{name: eth1,", "{name: eth0,", 'eth0, mac: "52:54:00:00:00:02"', "nodes[0].nics[1].name", "the name eth0 is already", "only once"),
    ("duplicate MAC, written otherwise", '"52:54:00:00:00:03"', '"52-54-00-00-00-01"', '"52-54', "nodes[1].nics[0].mac", "52:54:00:00:00:01 is already that of nodes[0] (a1-01) (line 29)", "only once"),
    ("duplicate MAC in one node", '"52:54:00:00:00:02"', '"52:54:00:00:00:01"', '"52:54:00:00:00:01", network: storage', "nodes[0].nics[1].mac", "52:54:00:00:00:01 is already that of nodes[0] (a1-01) (line 29)", "only once"),
    ("duplicate serial, other case", "serial: LV-0002", "serial: lv-0001", "lv-0001", "nodes[1].serial", "lv-0001 is already that of nodes[0] (a1-01)", "only once"),
    ("duplicate BMC", "address: 127.0.77.12", "address: 127.0.77.11, port: 6230", "127.0.77.11, port: 6230, cred", "nodes[1].bmc.address", "127.0.77.11 port 6230 is already that of nodes[0] (a1-01)", "only once"),
    ("duplicate address", LAST_NIC, LAST_NIC[:-1] + ", address: 10.77.0.20}", "10.77.0.20", "nodes[1].nics[0].address", "the address 10.77.0.20 is already that of nodes[0] (a1-01) (line 29)", "only once"),
    ("BMC with a NIC's address", "address: 127.0.77.12", "address: 10.77.0.20", "10.77.0.20, cred", "nodes[1].bmc.address", "10.77.0.20 is already that of a NIC of nodes[0] (a1-01) (line 29)", "of the BMC's own"),
    ("unknown zone", "zone: b}", "zone: bb}", "bb}", "racks[1].zone", "there is no zone named 'bb'", "did you mean 'b'?"),
    ("unknown rack", "rack: b1", "rack: b11", "b11", "nodes[1].rack", "there is no rack named 'b11'", "did you mean 'b1'?"),
    ("unknown image", "    image: debian-12\n    bmc:", "    image: debain-12\n    bmc:", "debain-12", "nodes[1].image", "there is no image named 'debain-12'", "did you mean 'debian-12'?"),
    ("unknown network", "network: storage", "network: storge", "storge", "nodes[0].nics[1].network", "there is no network named 'storge'", "did you mean 'storage'?"),
    ("networks overlap", "cidr: 10.78.0.0/24\n    host_range: {start: 10.78.0.10, end: 10.78.0.12}", "cidr: 10.77.0.128/25\n    host_range: {start: 10.77.0.130, end: 10.77.0.132}", "10.77.0.128/25", "networks[1].cidr", "10.77.0.128/25 overlaps 10.77.0.0/24 of networks[0] (provisioning) (line 7)", "without a common address"),
    ("ranges overlap", "end: 10.77.0.99}", "end: 10.77.0.100}", "{start: 10.77.0.10,", "networks[0].host_range", "overlaps the dhcp_range 10.77.0.100 to 10.77.0.199 (line 11)", "without a common address"),
    ("gateway outside", "gateway: 10.77.0.1\n", "gateway: 10.70.0.1\n", "10.70.0.1", "networks[0].gateway", "10.70.0.1 is outside of 10.77.0.0/24", "expected 10.77.0.1 to 10.77.0.254"),
    ("server is broadcast", "server_address: 10.77.0.2\n", "server_address: 10.77.0.255\n", "10.77.0.255", "networks[0].server_address", "is the broadcast address", "10.77.0.1 to 10.77.0.254"),
    ("range outside", "end: 10.78.0.12", "end: 10.79.0.12", "10.79.0.12", "networks[1].host_range.end", "10.79.0.12 is outside of 10.78.0.0/24", "10.78.0.1 to 10.78.0.254"),
    ("range backwards", "{start: 10.77.0.100, end: 10.77.0.199}", "{start: 10.77.0.199, end: 10.77.0.100}", "{start: 10.77.0.199", "networks[0].dhcp_range", "start 10.77.0.199 is after end 10.77.0.100", "start before end"),
    ("range holds the gateway", "gateway: 10.77.0.1\n", "gateway: 10.77.0.50\n", "{start: 10.77.0.10,", "networks[0].host_range", "holds the gateway 10.77.0.50 (line 8)", "without it"),
    ("fixed address outside", "address: 10.77.0.20", "address: 10.78.0.20", "10.78.0.20", "nodes[0].nics[0].address", "10.78.0.20 is outside of 10.77.0.0/24", "10.77.0.1 to"),
    ("fixed address in DHCP", "address: 10.77.0.20", "address: 10.77.0.150", "10.77.0.150", "nodes[0].nics[0].address", "lies in the dhcp_range 10.77.0.100 to 10.77.0.199", "outside of that range"),
    ("fixed address is the gateway", "address: 10.77.0.20", "address: 10.77.0.1", "10.77.0.1}", "nodes[0].nics[0].address", "10.77.0.1 is the gateway of networks[0] (provisioning) (line 8)", "of its own"),
    ("fixed address is the server", "address: 10.77.0.20", "address: 10.77.0.2", "10.77.0.2}", "nodes[0].nics[0].address", "10.77.0.2 is the server_address", "of its own"),
    ("fixed address is the network", "address: 10.77.0.20", "address: 10.77.0.0", "10.77.0.0}", "nodes[0].nics[0].address", "is the network address", "10.77.0.1 to"),
    ("fixed address is broadcast", "address: 10.77.0.20", "address: 10.77.0.255", "10.77.0.255}", "nodes[0].nics[0].address", "is the broadcast address", "10.77.0.1 to"),
    ("address without a network", '"52:54:00:00:00:02", network: storage', '"52:54:00:00:00:02", address: 10.78.0.10', "10.78.0.10}", "nodes[0].nics[1].address", "without a network", "network"),
    ("range too small", "host_range: {start: 10.77.0.10, end: 10.77.0.99}", "host_range: {start: 10.77.0.20, end: 10.77.0.20}", "{start: 10.77.0.20,", "networks[0].host_range", "0 free addresses for 1 NICs", "1 addresses more"),
    ("no range", "    host_range: {start: 10.78.0.10, end: 10.78.0.12}\n", "", "name: storage", "networks[1].host_range", "1 NICs on this network have no fixed address", "at least 1"),
    ("BMC inside the range", "address: 127.0.77.12", "address: 10.77.0.30", "10.77.0.30", "nodes[1].bmc.address", "lies in the host_range", "no host can be given"),
    ("no provisioning server", "    server_address: 10.77.0.2\n", "", "name: provisioning", "networks[0].server_address", "nodes boot from this network", "address of the Levier server"),
    ("nothing to boot from", "network: provisioning}", "network: storage}", '- {name: eth0, mac: "52:54:00:00:00:03"', "nodes[1].nics", "0 NICs are on a network for provisioning", "exactly one NIC"),
    ("two to boot from", "network: storage", "network: provisioning", '- {name: eth0, mac: "52:54:00:00:00:01"', "nodes[0].nics", "2 NICs are on a network for provisioning", "exactly one NIC"),
    ("empty hints", "{serial: ROOT-1}", "{}", "{}", "nodes[0].root_device", "there are no hints", "at least one of serial, model"),
    ("hints contradict", "{serial: ROOT-1}", "{min_size_gib: 20, max_size_gib: 10}", "20", "nodes[0].root_device.min_size_gib", "20 is larger than max_size_gib 10", "at most 10"),
]  # fmt: skip


def test_the_sample_itself_is_valid() -> None:
    assert [node.name for node in load(SAMPLE).site.nodes] == ["a1-01", "b1-01"]


@pytest.mark.parametrize(
    ("old", "new", "at", "path", "message", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_bad_input_is_named(old: str, new: str, at: str, path: str, message: str, expected: str) -> None:
    text = edited((old, new))
    error = refusal(text)
    found = next((each for each in error.problems if each.path == path and message in each.message), None)
    assert found is not None, str(error)
    assert expected in found.expected
    assert (found.line, found.column) == position_of(text, at), str(error)
    # One mistake is one error; an address used wrongly may contradict more than one entry.
    assert all(each.line == found.line or each.path.startswith("networks") for each in error.problems), str(error)


def test_the_error_is_an_invalid_request_that_lists_every_line() -> None:
    error = refusal(edited(("port: 6230", "port: 0"), ("zone: b}", "zone: c}")))
    assert isinstance(error, InvalidRequest)
    assert "2 errors in site.yaml" in error.message
    assert (
        "site.yaml:3:47: racks[1].zone: there is no zone named 'c' under zones; expected one of a, b" in error.message
    )
    assert "levier site validate site.yaml" in error.hint


def test_secrets_written_into_the_file_are_not_repeated_in_the_error() -> None:
    error = refusal(edited(("credential: lab-bmc", "credential: Hunter2!, password: Hunter3!")))
    assert {each.path for each in error.problems} == {"nodes[0].bmc.credential", "nodes[0].bmc.password"}
    assert "Hunter" not in f"{error}{error.hint}{error.problems}"


def test_a_number_in_the_place_of_a_credential_is_not_repeated_either() -> None:
    error = refusal(edited(("credential: lab-bmc", "credential: 90210")))
    assert [each.message for each in error.problems] == ["this is not the name of a secret"]
    assert "90210" not in f"{error}{error.hint}"


def test_every_error_is_reported_at_once() -> None:
    changes = [
        ("timezone: Etc/UTC", "timezone: Mars/Olympus"),
        ("zone: b}", "zone: c}"),
        ("gateway: 10.77.0.1\n", "gateway: 10.99.0.1\n"),
        ("rack: a1\n", "rack: a9\n"),
        ("port: 6230", "prt: 6230"),
        ('"52:54:00:00:00:03"', '"52:54:00:00:00:01"'),
        ("firmware: uefi", "firmware: efi"),
        ("{serial: ROOT-1}", "{}"),
        ("name: b1-01", "name: b1-01\n    name: b1-02"),
    ]
    alone = {(p.path, p.message) for change in changes for p in refusal(edited(change)).problems}
    together = refusal(edited(*changes)).problems
    assert len(together) == len(changes)
    assert {path for path, _ in alone} == {each.path for each in together}


def test_a_broken_node_still_takes_part_in_the_checks_between_entries() -> None:
    text = edited((NODE_B, NODE_A + "\n    colour: red"), ('"52:54:00:00:00:03"', '"52:54:00:00:00:01"'))
    assert {each.path for each in refusal(text).problems} == {
        "nodes[1].name",
        "nodes[1].colour",
        "nodes[1].nics[0].mac",
    }


def test_rendering_is_one_line_a_problem_in_file_order() -> None:
    error = refusal(edited(("address: 127.0.77.12", "adress: x, address: 127.0.77.12"), ("zone: b}", "zone: aa}")))
    assert render_problems(reversed(error.problems), "site.yaml").splitlines() == [
        "site.yaml:3:47: racks[1].zone: there is no zone named 'aa' under zones; did you mean 'a'?",
        "site.yaml:37:25: nodes[1].bmc.adress: unknown key; did you mean 'address'?",
    ]
