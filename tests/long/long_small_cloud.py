"""A controller whose public endpoints have the operator's own certificate, and a compute host with a kernel of its own:
its clock can be wrong, containers have that of this computer.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.integration.cloud.installation import CONTROLLER, OWN_KERNEL, CloudInstallation
from tests.integration.e2e.installation import Site, installed

pytestmark = [pytest.mark.root, pytest.mark.timeout(3600)]
PUBLIC = "cloud.example.org"


class Rack(CloudInstallation):
    """A controller in a container, and an emulated compute host."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, emulated="fake")

    def _first_site(self, site: Site) -> Site:
        site = super()._first_site(site)
        roles = {CONTROLLER: ["controller", "network"], OWN_KERNEL: ["compute"]}
        nodes = [{**node, "roles": roles.get(node["name"], [])} for node in site["nodes"]]
        return {**site, "openstack": {"public_host": PUBLIC}, "nodes": nodes}

    @property
    def authority(self) -> Path:
        """The certificate of whoever signed the operator's."""
        return self.directory / "authority.pem"

    def give_certificate(self) -> None:
        """The operator's key and certificate are in the secret store, as docs/install.md says."""
        key, request, signed = (self.directory / f"public.{what}" for what in ("key", "csr", "crt"))
        new = ("openssl", "req", "-newkey", "rsa:2048", "-noenc")
        own = ("-x509", "-subj", "/CN=The operator's authority", "-keyout", self.directory / "authority.key")
        subprocess.run([*new, *own, "-out", self.authority], check=True, capture_output=True)
        names = ("-subj", f"/CN={PUBLIC}", "-addext", f"subjectAltName=DNS:{PUBLIC}")
        subprocess.run([*new, *names, "-keyout", key, "-out", request], check=True, capture_output=True)
        by = ("-CA", self.authority, "-CAkey", self.directory / "authority.key", "-copy_extensions", "copy")
        subprocess.run(
            ["openssl", "x509", "-req", "-in", request, *by, "-out", signed], check=True, capture_output=True
        )
        pem = key.read_text() + signed.read_text()
        self.terminal.ok("secret", "set", "haproxy.certificate", "--stdin-json", stdin=json.dumps({"pem": pem}))


@pytest.fixture(scope="module")
def cloud() -> Iterator[Rack]:
    with installed(Rack) as rack:
        rack.give_certificate()
        answer, _ = rack.install()
        assert answer.status == 0, answer.text[-4000:]
        yield rack


def test_the_operators_certificate_is_served_and_nobody_is_told_to_trust_another(cloud: Rack, tmp_path: Path) -> None:
    cloud.terminal.ok("cloud", "access", "--directory", str(tmp_path), "--name", "ours")
    entry = YAML(typ="safe").load((tmp_path / "clouds.yaml").read_text())["clouds"]["ours"]
    assert entry["auth"]["auth_url"] == f"https://{PUBLIC}:13000/v3"
    assert "cacert" not in entry
    here = f"{PUBLIC}:13000:{cloud.nodes()[CONTROLLER]['address']}"
    curl = ["ip", "netns", "exec", f"levier-{cloud.lab}", "curl", "--silent", "--show-error", "--resolve", here]
    ask = [*curl, "--cacert", str(cloud.authority), entry["auth"]["auth_url"]]
    answer = subprocess.run(ask, check=True, capture_output=True, text=True)
    assert json.loads(answer.stdout)["version"]["id"].startswith("v3")


def test_a_clock_that_is_off_is_named_and_its_host_falls_alone(cloud: Rack) -> None:
    cloud.on(OWN_KERNEL, "systemctl stop systemd-timesyncd && date --set='+1 hour'")
    try:
        answer, operation = cloud.install()
    finally:
        cloud.on(OWN_KERNEL, "date --set='-1 hour' && systemctl start systemd-timesyncd")
    assert answer.status != 0
    assert operation["state"] == "held"
    assert [(s["step"], s["target"]) for s in operation["steps"] if s["error"]] == [("reach-host", OWN_KERNEL)]
    assert re.search(rf"{OWN_KERNEL}: the host's clock is 3[56]\d\d s ahead, and was not set right within", answer.text)
    assert operation["outcomes"][CONTROLLER] == "ready"
    assert {cloud.nodes()[host]["state"] for host in (CONTROLLER, OWN_KERNEL)} == {"in_service"}
