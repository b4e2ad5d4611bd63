"""`levier config show` and `levier component`, over a real installation's services; what is kept holds no secret."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner

from levier.api.app import create_app
from levier.bootstrap import ensure_token, wire
from levier.cli import app
from levier.domain.errors import LeaseLost, LevierError
from levier.saga.engine import Saga
from levier.services.components import RenderedComponent, ensure_secrets, load_components, references, resolved
from levier.services.components.installed import VARIABLE
from levier.services.components.loading import SHIPPED
from levier.services.registry import Services
from levier.services.settings import Settings
from levier.store.addresses import AddressStore
from levier.store.base import open_engine
from levier.store.step_log import SqlStepLog
from tests.integration.prefect_server import free_port
from tests.integration.saga_faults import VERSION, begun, now
from tests.unit.components.sites import ONE_NIC, ONE_NIC_ADDRESSES, TWO_ZONES


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    """An installation with its API, a site applied, and an operator's environment beside it."""
    port = free_port()
    settings = Settings(
        state_dir=tmp_path / "state",
        database_url=f"sqlite:///{tmp_path / 'levier.db'}",
        api_url=f"http://127.0.0.1:{port}",
        prefect_api_url="http://127.0.0.1:1/api",
        boot_port=8480,
        image_cache=tmp_path / "images",
        build_ramdisk=False,
    )
    wired = wire(settings)
    token = ensure_token(settings.token_file)
    server = uvicorn.Server(uvicorn.Config(create_app(wired, token=token), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    monkeypatch.setenv("LEVIER_API_URL", settings.api_url)
    monkeypatch.setenv("LEVIER_STATE_DIR", str(settings.state_dir))
    while not server.started:
        thread.join(0.01)
        assert thread.is_alive()
    wired.sites.apply(TWO_ZONES, "site.yaml", who="test")
    try:
        yield wired
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def levier(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, LevierError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def saga_of(services: Services) -> Saga:
    return Saga(SqlStepLog(open_engine(services.settings.database_url)), now, VERSION)


def write(services: Services, host: str, *components: str) -> tuple[RenderedComponent, ...]:
    """The components (all) of the host were kept as the step that writes them does it; with the newest revision."""
    number, site = services.sites.current()
    fence = begun(saga_of(services), host)
    rendered = services.configurations.rendered(host, site)
    wanted = tuple(each for each in rendered if each.component in components or not components)
    for each in wanted:
        services.cloud_access.cloud.keep_rendered(each, revision=number, fence=fence)
    return wanted


def other_keystone(directory: Path) -> None:
    """A keystone of the operator's own, whose file begins differently, is in `directory`."""
    shutil.copytree(SHIPPED / "keystone", directory / "keystone")
    template = directory / "keystone/keystone.conf.j2"
    template.write_text(f"# Ours.\n{template.read_text()}")


def test_the_files_of_a_component_are_shown_with_secrets_masked(services: Services) -> None:
    shown = levier("config", "show", "a1-01", "keystone")
    assert "connection = mysql+pymysql://keystone:***@10.78.0.11:3306/keystone?charset=utf8mb4" in shown
    assert "expiration = 7200" in shown
    assert "@{secret" not in shown
    overview = levier("config", "show", "b1-01")
    assert "/etc/levier/nova-compute/nova.conf" in overview
    assert "/etc/levier/keystone" not in overview


def test_json_says_which_level_chose_a_setting(services: Services) -> None:
    answer = json.loads(levier("config", "show", "b1-01", "nova-compute", "--json"))
    (component,) = answer["components"]
    assert answer["revision"] == 1
    assert component["settings"]["hypervisor"] == {"value": "qemu", "from": "zone b"}
    assert component["settings"]["reserved_memory_mib"] == {"value": 256, "from": "host b1-01"}


def test_what_is_kept_with_the_revision_has_references_and_no_secret(services: Services) -> None:
    components = load_components()
    ensure_secrets(components.values(), services.secrets, public_hosts=["10.80.0.11"])
    rendered = write(services, "a1-01")
    assert {each.component: each for each in services.configurations.written("a1-01", 1)} == {
        each.component: each for each in rendered
    }
    files = sorted(services.settings.state_dir.parent.glob("levier.db*"))
    kept = b"".join(each.read_bytes() for each in files)
    assert b"@{secret:keystone.database" in kept
    names = {name for each in rendered for file in each.files for name in references(file.content)}
    assert {"keystone.admin", "nova.database", "haproxy.certificate"} <= names
    clear = {value for name in names for value in services.secrets.get(name).values()}
    assert len(clear) > len(names) / 2
    for value in clear:
        assert value.encode() not in kept
    conf = next(file for each in rendered if each.component == "keystone" for file in each.files)
    text = resolved(conf.content, services.secrets, file_format=conf.format)
    assert f":{services.secrets.get('keystone.database')['password']}@10.78.0.11" in text
    assert not references(text)


def test_secrets_are_made_once(services: Services) -> None:
    components = load_components()
    names = ensure_secrets(components.values(), services.secrets, public_hosts=["10.80.0.11"])
    before = {name: dict(services.secrets.get(name)) for name in names}
    assert ensure_secrets(components.values(), services.secrets, public_hosts=["10.80.0.11"]) == names
    assert {name: dict(services.secrets.get(name)) for name in names} == before
    assert len({value for values in before.values() for value in values.values()}) >= len(names)


def test_an_older_revision_is_shown_as_it_was(services: Services) -> None:
    services.sites.apply(TWO_ZONES.replace("7200", "3600"), "site.yaml", who="test")
    assert "expiration = 3600" in levier("config", "show", "a1-01", "keystone")
    assert "expiration = 7200" in levier("config", "show", "a1-01", "keystone", "--revision", "1")
    (change,) = services.sites.diff(1, 2)
    assert change["path"] == "settings.keystone.token_lifetime_s"


def test_what_was_written_with_a_revision_is_shown_as_it_was_written(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Written so with this revision: no" in levier("config", "show", "a1-01", "keystone")
    write(services, "a1-01")
    before = levier("config", "show", "a1-01", "keystone", "--revision", "1")
    assert "Written so with this revision: yes" in before
    assert before == levier("config", "show", "a1-01", "keystone")
    other_keystone(tmp_path / "components")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "components"))
    now_shown = levier("config", "show", "a1-01", "keystone")
    assert "# Ours." in now_shown
    assert "Written so with this revision: no" in now_shown
    assert levier("config", "show", "a1-01", "keystone", "--revision", "1") == before
    services.sites.apply(TWO_ZONES.replace("7200", "3600"), "site.yaml", who="test")
    assert levier("config", "show", "a1-01", "keystone", "--revision", "1") == before
    write(services, "a1-01", "keystone")
    assert levier("config", "show", "a1-01", "keystone", "--revision", "1") == before
    assert "# Ours." in levier("config", "show", "a1-01", "keystone", "--revision", "2")


def test_what_was_written_is_shown_after_the_addresses_were_released(services: Services) -> None:
    addresses = AddressStore(open_engine(services.settings.database_url))
    services.sites.apply(ONE_NIC, "site.yaml", who="test")
    for (node, network), address in ONE_NIC_ADDRESSES.items():
        addresses.allocate(network, [address], node=node, operation="test")
    write(services, "one")
    before = levier("config", "show", "one", "keystone", "--revision", "2")
    assert "10.77.0.10" in before
    for node, network in ONE_NIC_ADDRESSES:
        addresses.release(network, node=node)
    with pytest.raises(LevierError, match="one has no address on the internal network yet"):
        levier("config", "show", "one", "keystone")
    assert levier("config", "show", "one", "keystone", "--revision", "2") == before


def test_looking_keeps_nothing(services: Services) -> None:
    levier("config", "show", "a1-01")
    levier("config", "show", "a1-01", "--revision", "1")
    assert services.configurations.written("a1-01", 1) == ()


def test_of_a_half_written_host_only_what_was_written_is_shown(services: Services) -> None:
    write(services, "a1-01", "mariadb", "memcached")
    write(services, "a1-01", "memcached")
    answer = json.loads(levier("config", "show", "a1-01", "--revision", "1", "--json"))
    assert [(each["component"], each["written"]) for each in answer["components"]] == [
        ("mariadb", True),
        ("memcached", True),
    ]
    with pytest.raises(LevierError, match="keystone was not written to a1-01 with this revision") as caught:
        levier("config", "show", "a1-01", "keystone", "--revision", "1")
    assert "mariadb, memcached" in str(caught.value.hint)
    newest = json.loads(levier("config", "show", "a1-01", "--json"))["components"]
    assert {each["component"] for each in newest if each["written"]} == {"mariadb", "memcached"}
    assert "keystone" in {each["component"] for each in newest}


def test_a_worker_that_was_taken_over_keeps_nothing(services: Services) -> None:
    saga = saga_of(services)
    lost = begun(saga, "a1-01")
    saga.begin(lost.operation, worker="another")
    rendered = services.configurations.rendered("a1-01", services.sites.current()[1])
    with pytest.raises(LeaseLost):
        services.cloud_access.cloud.keep_rendered(rendered[0], revision=1, fence=lost)
    assert services.configurations.written("a1-01", 1) == ()


def test_a_wrong_name_meets_the_nearest(services: Services) -> None:
    with pytest.raises(LevierError, match="no component named 'keystoen'"):
        levier("config", "show", "a1-01", "keystoen")
    with pytest.raises(LevierError, match="keystone does not run on b1-01"):
        levier("config", "show", "b1-01", "keystone")
    with pytest.raises(LevierError, match="no configuration revision 9"):
        levier("config", "show", "a1-01", "--revision", "9")


def test_components_are_listed_with_their_settings(services: Services) -> None:
    rows = {each["name"]: each for each in json.loads(levier("component", "list", "--json"))}
    assert rows["nova-compute"]["roles"] == ["compute"]
    assert rows["nova-compute"]["settings"]["hypervisor"]["choices"] == ["kvm", "qemu", "fake"]
    assert "token_lifetime_s" in levier("component", "show", "keystone")
