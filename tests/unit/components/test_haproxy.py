"""What haproxy listens on follows from the site, and its health is a question by TLS to what it serves."""

from __future__ import annotations

import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from levier.domain.errors import InvalidRequest
from levier.services.components import load_components, render_component, view_site
from levier.services.components.site_ca import ensure_authority, server_certificate
from levier.services.secrets import SecretStore
from tests.unit.components.sites import ONE_NIC, ONE_NIC_ADDRESSES, TWO_ZONES, rendered, site_in

HERE = "127.0.0.1"
PUBLIC_PORTS = {443, 13000, 13080, 13292, 13696, 13774, 13776, 13778}


@pytest.fixture
def store(tmp_path: Path) -> SecretStore:
    return SecretStore(tmp_path / "secrets")


@contextmanager
def serving(pem: Path, status: int) -> Iterator[int]:
    """A server that shows the certificate of `pem` and answers everything with `status`; its port."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v3" else 404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing is printed."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    server = ThreadingHTTPServer((HERE, 0), Answer)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certificate(store: SecretStore, file: Path) -> Path:
    file.write_text(server_certificate(ensure_authority(store), ["cloud.example"]))
    return file


def health(configured: Path, port: int, folder: Path) -> tuple[int, str]:
    """How the check of a1-01 ends, were `port` its only one and `configured` its certificate."""
    component = rendered(site_in(TWO_ZONES), "a1-01", "haproxy")
    assert component.health is not None
    assert component.health.command is not None
    *python, place = component.health.command
    assert python == ["python3", "-I"]
    script = next(each.content for each in component.files if each.path == place)
    lines = {"CERTIFICATE": repr(str(configured)), "ADDRESS": repr(HERE), "PORTS": f"[{port}]"}
    text = [
        f"{name} = {lines[name]}" if (name := line.partition(" = ")[0]) in lines else line
        for line in script.replace("IDENTITY, PATH = 13000,", f"IDENTITY, PATH = {port},").splitlines()
    ]
    file = folder / "ask.py"
    file.write_text("\n".join(text))
    done = subprocess.run([sys.executable, "-I", file], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stderr


def test_the_ports_are_those_of_what_the_site_offers_and_the_same_that_it_binds() -> None:
    component = rendered(site_in(TWO_ZONES), "a1-01", "haproxy")
    bound = {
        int(line.split()[1].removeprefix(":"))
        for line in component.files[0].content.splitlines()
        if line.startswith("    bind ")
    }
    assert set(component.ports) == bound == PUBLIC_PORTS
    fewer = rendered(site_in(TWO_ZONES.replace(", horizon]", "]")), "a1-01", "haproxy")
    assert set(fewer.ports) == PUBLIC_PORTS - {443}


def test_a_component_without_computed_ports_has_those_it_declares() -> None:
    assert set(rendered(site_in(TWO_ZONES), "a1-01", "nova-api").ports) == {8774, 8775}


def test_a_computed_port_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "heat").mkdir()
    (tmp_path / "heat" / "component.yaml").write_text(
        "name: heat\nsummary: heat\ncomputed_ports: '80 {{ host.name }}'\n"
    )
    site, components = site_in(ONE_NIC), load_components([tmp_path])
    view = view_site(site, components, ONE_NIC_ADDRESSES)
    with pytest.raises(InvalidRequest, match="give 'one', which is no TCP port"):
        render_component(components, "heat", site=site, view=view, host="one")


def test_it_is_healthy_where_it_shows_its_certificate_and_keystone_answers(tmp_path: Path, store: SecretStore) -> None:
    own = certificate(store, tmp_path / "own.pem")
    with serving(own, 200) as port:
        assert health(own, port, tmp_path) == (0, "")


def test_an_old_certificate_is_told(tmp_path: Path, store: SecretStore) -> None:
    own, old = (certificate(store, tmp_path / name) for name in ("own.pem", "old.pem"))
    with serving(old, 200) as port:
        status, said = health(own, port, tmp_path)
    assert status == 1
    assert f"port {port} shows another certificate than that of {own}" in said


def test_a_keystone_that_cannot_be_reached_through_it_is_told(tmp_path: Path, store: SecretStore) -> None:
    own = certificate(store, tmp_path / "own.pem")
    with serving(own, 503) as port:
        status, said = health(own, port, tmp_path)
    assert (status, said.strip()) == (1, f"port {port} answers 503 to GET /v3")


def test_a_port_on_which_nobody_listens_is_told(tmp_path: Path, store: SecretStore) -> None:
    own = certificate(store, tmp_path / "own.pem")
    with serving(own, 200) as port:
        pass
    status, said = health(own, port, tmp_path)
    assert status == 1
    assert f"port {port} does not answer by TLS: ConnectionRefusedError" in said
