"""Networks whose DHCP is somebody else's: what the site file needs, and what Levier then leaves alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import site_samples
from site_samples import edited, load, refusal

from levier.domain.errors import Unreachable
from levier.domain.netboot import DhcpHost
from levier.domain.site import Site
from levier.services.netboot_process import SiteDhcp, dnsmasq_config
from levier.services.settings import Settings

INTERFACE = "    interface: br-prov\n"
RANGE = "    dhcp_range: {start: 10.77.0.100, end: 10.77.0.199}\n"
EXTERNAL = edited((INTERFACE, "    dhcp: external\n"), (RANGE, ""))
WITHOUT = edited(("    purpose: provisioning\n", "    purpose: management\n"))


class _Sites:
    """The revisions of an installation whose newest holds one site, or none."""

    def __init__(self, site: Site | None) -> None:
        self._site = site

    def current_or_none(self) -> tuple[int, Site] | None:
        return None if self._site is None else (1, self._site)


def _settings(tmp_path: Path) -> Settings:
    return Settings(
        state_dir=tmp_path,
        database_url=f"sqlite:///{tmp_path / 'levier.db'}",
        api_url="http://127.0.0.1:1",
        prefect_api_url="http://127.0.0.1:1/api",
        boot_port=8480,
        image_cache=tmp_path / "images",
    )


def _never_read() -> Iterable[DhcpHost]:
    raise AssertionError("nobody is to be told, so nothing is to be read")


def _dhcp(tmp_path: Path, site: Site | None) -> SiteDhcp:
    return SiteDhcp(_settings(tmp_path), _Sites(site))  # type: ignore[arg-type]


def test_an_interface_is_needed_only_for_levier_s_own_dhcp() -> None:
    assert load(EXTERNAL).site.network("provisioning").interface is None
    (problem,) = refusal(edited((INTERFACE, ""))).problems
    assert problem.path == "networks[0].interface"
    assert "is missing" in problem.message


def test_the_server_address_is_needed_all_the_same() -> None:
    (problem,) = refusal(EXTERNAL.replace("    server_address: 10.77.0.2\n", "")).problems
    assert problem.path == "networks[0].server_address"


def test_another_word_than_the_two_is_refused_at_its_line() -> None:
    text = edited((INTERFACE, INTERFACE + "    dhcp: none\n"))
    (problem,) = refusal(text).problems
    assert (problem.path, problem.line) == ("networks[0].dhcp", site_samples.position_of(text, "dhcp: none")[0])
    assert "levier" in problem.expected
    assert "external" in problem.expected


def test_dnsmasq_serves_only_the_networks_that_are_levier_s(tmp_path: Path) -> None:
    settings = _settings(tmp_path)
    assert dnsmasq_config(settings, load(EXTERNAL).site) is None
    both = EXTERNAL.replace(
        "  - name: storage\n    purpose: storage\n",
        "  - name: storage\n    purpose: provisioning\n    interface: eth9\n    server_address: 10.78.0.2\n",
    ).replace("network: storage", "network: null")
    config = dnsmasq_config(settings, load(both).site)
    assert config is not None
    assert [network.interface for network in config.networks] == ["eth9"]


def test_an_entry_is_published_without_a_server_of_our_own(tmp_path: Path) -> None:
    dhcp = _dhcp(tmp_path, load(EXTERNAL).site)
    dhcp.publish(_never_read)
    assert dhcp.lease_given("52:54:00:00:00:01") is None


@pytest.mark.parametrize("site", [None, "management only"])
def test_without_any_network_to_boot_from_publishing_fails(tmp_path: Path, site: str | None) -> None:
    text = EXTERNAL.partition("nodes:")[0].replace("purpose: provisioning", "purpose: management")
    dhcp = _dhcp(tmp_path, None if site is None else load(text).site)
    with pytest.raises(Unreachable, match="for provisioning"):
        dhcp.publish(_never_read)


def test_the_ssh_port_is_22_unless_the_site_says_otherwise() -> None:
    assert load(EXTERNAL).site.site.ssh_port == 22
    other = EXTERNAL.replace("timezone: Etc/UTC}", "timezone: Etc/UTC, ssh_port: 2222}")
    assert load(other).site.site.ssh_port == 2222
    (problem,) = refusal(other.replace("2222", "70000")).problems
    assert problem.path == "site.ssh_port"
