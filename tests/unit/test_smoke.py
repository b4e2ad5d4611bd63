"""What the smoke test covers, and how a server's words are read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from ipaddress import IPv4Address
from typing import Any

import pytest
from site_samples import smoke_site as site

from levier.domain.site import Site
from levier.domain.smoke import (
    CIDR,
    GATEWAY,
    POOL,
    REACHED,
    Check,
    GuestReport,
    SmokeScope,
    lacking,
    peers_of,
    reaches_enough,
    read_console,
    server_addresses,
    smoke_scope,
    unreached,
    user_data,
    without_server,
)
from levier.services.components import load_components

COMPONENTS = load_components()
CONTROL = "controller, network, storage"


def left_out(host: str, hosts: Mapping[str, str], settings: str = "") -> dict[Check, str]:
    return dict(smoke_scope(site(hosts, settings), COMPONENTS).left_out[host])


TWO = {"c1": CONTROL, "n1": "compute", "n2": "compute"}
SHARED = "settings: {cinder-volume: {nfs_shares: ['10.77.0.5:/srv/volumes']}}"


def test_everything_is_checked_where_everything_is_there() -> None:
    scope = smoke_scope(site(TWO, SHARED), COMPONENTS)
    assert scope.hosts == ("n1", "n2")
    assert scope.left_out == {"n1": {}, "n2": {}}
    assert scope.not_there == {}


@pytest.mark.parametrize(
    ("hosts", "settings", "wanted"),
    [
        (TWO, "", {Check.VOLUME: "volumes are a directory of c1, which servers elsewhere cannot attach"}),
        (
            {"c1": CONTROL, "n1": "compute"},
            SHARED,
            {Check.PEERS: "no other compute host has a server to talk to"},
        ),
        (
            {"c1": "controller, network", "n1": "compute", "n2": "compute"},
            "",
            {Check.VOLUME: "no host runs cinder-volume"},
        ),
        (
            {"c1": "controller, storage", "n1": "compute", "n2": "compute"},
            SHARED,
            {
                Check.ADDRESS: "no host runs neutron-dhcp-agent",
                Check.METADATA: "no host runs neutron-dhcp-agent",
                Check.ROUTER: "no host runs neutron-dhcp-agent",
                Check.PEERS: "no host runs neutron-dhcp-agent",
            },
        ),
    ],
)
def test_what_cannot_be_checked_is_said_with_the_reason(
    hosts: dict[str, str], settings: str, wanted: dict[Check, str]
) -> None:
    assert left_out("n1", hosts, settings) == wanted


def test_a_volume_of_this_very_host_is_checked() -> None:
    hosts = {"c1": f"{CONTROL}, compute", "n1": "compute"}
    assert Check.VOLUME not in left_out("c1", hosts)
    assert Check.VOLUME in left_out("n1", hosts)


def test_of_a_fake_hypervisor_the_server_is_checked_only() -> None:
    fake = "settings: {nova-compute: {hypervisor: fake}}"
    reasons = left_out("n1", TWO, fake)
    assert set(Check) - set(reasons) == {Check.SERVER}
    assert set(reasons.values()) == {"the hypervisor is fake: no server really runs"}


def test_without_nova_token_and_image_are_what_is_tried() -> None:
    scope = smoke_scope(site({"c1": CONTROL}), COMPONENTS)
    assert scope.hosts == ()
    assert scope.not_there == {"servers": "no host runs nova-compute: only a token and an image were tried"}


def test_addresses_are_the_same_each_time_and_never_neutrons_own() -> None:
    hosts = [f"n{n}" for n in range(1500)]
    found = server_addresses(hosts)
    assert found == server_addresses(list(reversed(hosts)))
    assert len(set(found.values())) == len(hosts)
    for each in found.values():
        assert IPv4Address(each) in CIDR
        assert each != GATEWAY
        assert IPv4Address(each) < IPv4Address(POOL[0])


CONSOLE = """SeaBIOS (version 1.16.2)\r
LEVIER-SMOKE started kernel=6.1.0-56-cloud-amd64\r
LEVIER-SMOKE address=no\r
LEVIER-SMOKE address=198.18.0.10/16 mtu=1446\r
LEVIER-SMOKE metadata=ok\r
LEVIER-SMOKE gateway=198.18.0.1 ping=no\r
LEVIER-SMOKE gateway=198.18.0.1 ping=ok\r
LEVIER-SMOKE peer=198.18.0.11 ping=ok http=short\r
[   12.3] something elseLEVIER-SMOKE volume=vdb size=1073741824 io=ok\r
"""


def test_of_a_subject_the_last_word_counts() -> None:
    report = read_console(CONSOLE)
    assert (report.started, report.address, report.mtu) == (True, "198.18.0.10", 1446)
    assert (report.metadata, report.gateway, report.done) == (True, True, False)
    assert report.peers == {"198.18.0.11": "ping=ok http=short"}
    volume = report.volumes["vdb"]
    assert (volume.size_bytes, volume.io_works, volume.is_there) == (1 << 30, True, True)
    gone = read_console(CONSOLE + "LEVIER-SMOKE volume=vdb gone\r\n").volumes["vdb"]
    assert (gone.size_bytes, gone.io_works, gone.is_there) == (1 << 30, True, False)
    again = read_console(CONSOLE + "LEVIER-SMOKE volume=vdb gone\nLEVIER-SMOKE volume=vdb size=1073741824 io=no\n")
    assert not again.volumes["vdb"].io_works, "of a volume that came back its own word counts"


@pytest.mark.parametrize(
    "text", ["", "LEVIER-SMOKE ", "FAKE CONSOLE OUTPUT\nANOTHER\nLAST LINE", "LEVIER-SMOKE mtu=x ="]
)
def test_a_console_without_sense_says_nothing(text: str) -> None:
    report = read_console(text)
    assert (report.started, report.address, report.peers, report.volumes) == (False, "", {}, {})


def test_what_is_missing_is_said_by_name() -> None:
    scope = smoke_scope(site(TWO, SHARED), COMPONENTS)
    assert lacking(read_console(""), scope, "n1") == ("it has not started",)
    assert lacking(read_console(CONSOLE), scope, "n1") == ("the server on n2 (198.18.0.11): ping=ok http=short",)
    assert lacking(read_console(CONSOLE + f"LEVIER-SMOKE peer=198.18.0.11 {REACHED}"), scope, "n1") == ()
    assert lacking(read_console(CONSOLE), scope, "n2")[0] == "it has 198.18.0.10 by DHCP, not 198.18.0.11"
    silent = lacking(read_console("LEVIER-SMOKE started kernel=x\nLEVIER-SMOKE address=no"), scope, "n1")
    assert silent == (
        "it has no address by DHCP, not 198.18.0.10",
        "it has no answer from the metadata service",
        "its router 198.18.0.1 does not answer a ping",
        "the server on n2 (198.18.0.11): not tried yet",
    )


def test_user_data_names_the_peers_and_has_an_end() -> None:
    assert user_data(["198.18.0.12", "198.18.0.11"]) == "peer=198.18.0.11\npeer=198.18.0.12\nend\n"


def test_a_mixed_site_has_no_peer_that_does_not_run() -> None:
    text = site(TWO, SHARED).model_dump(mode="json")
    text["nodes"][1]["settings"] = {"nova-compute": {"hypervisor": "fake"}}
    scope = smoke_scope(_again(text), COMPONENTS)
    assert scope.left_out["n2"] == {Check.PEERS: "no other compute host has a server to talk to"}


def _again(document: dict[str, Any]) -> Site:
    return Site.model_validate(document)


def test_a_server_that_fell_with_its_host_is_not_missed() -> None:
    scope = smoke_scope(site(TWO), COMPONENTS)
    assert lacking(read_console(CONSOLE), scope, "n1", alive=["n1"]) == ()


def test_the_peers_of_a_large_cloud_are_a_few_neighbours_and_everybody_is_somebodys() -> None:
    hosts = {"c1": CONTROL} | {f"n{n:02}": "compute" for n in range(30)}
    scope = smoke_scope(site(hosts), COMPONENTS)
    named = [peer for host in scope.hosts for peer in peers_of(scope, host)]
    assert {host: named.count(host) for host in scope.hosts} == dict.fromkeys(scope.hosts, 8)
    assert not [host for host in scope.hosts if host in peers_of(scope, host)]


def console(scope: SmokeScope, reached: Collection[str]) -> GuestReport:
    """What a server says that is well and has tried all others."""
    said = {a: REACHED if h in reached else "ping=no http=no" for h, a in server_addresses(scope.hosts).items()}
    return read_console("\n".join(f"LEVIER-SMOKE peer={address} {words}" for address, words in said.items()))


@pytest.mark.parametrize(
    ("reached", "alive", "enough"),
    [
        (["n2"], ["n1", "n2"], True),
        ([], ["n1", "n2"], False),
        (["n2"], ["n1", "n2", "n3"], True),
        (["n2"], ["n1", "n2", "n3", "n4"], False),
        (["n2", "n3"], ["n1", "n2", "n3", "n4"], True),
        (["n5"], ["n1", "n2"], False),
        ([], ["n1"], True),
    ],
)
def test_a_host_falls_where_it_reaches_less_than_half_of_those_that_live(
    reached: list[str], alive: list[str], enough: bool
) -> None:
    scope = smoke_scope(site({"c1": CONTROL} | {f"n{n}": "compute" for n in range(1, 6)}), COMPONENTS)
    report = console(scope, reached)
    assert reaches_enough(report, scope, "n1", alive=alive) is enough
    missed = [each for each in alive if each not in ("n1", *reached)]
    assert list(unreached(report, scope, "n1", alive=alive)) == missed
    absent = [each for each in ("n2", "n3", "n4", "n5") if each not in (*alive, *reached)]
    assert list(without_server(report, scope, "n1", alive=alive)) == absent
