"""Folders become components; what is wrong in one is told with its line; what is shipped is whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from levier.domain.component_placement import components_of, dependency_order, missing_needs
from levier.domain.component_schema import component_schema
from levier.domain.errors import InvalidRequest, NotFound
from levier.domain.install_plan import install_stages
from levier.domain.site import Role
from levier.services.components import load_components, render_component, shell_script, view_site
from levier.services.components.loading import ComponentInvalid
from tests.unit.components.sites import ONE_NIC, ONE_NIC_ADDRESSES, TWO_ZONES, rendered, shipped, site_in

NOT_SHIPPED = """\
name: heat
summary: "heat, which a site brought along"
roles: [controller]
needs: [keystone]
secrets:
  - name: heat.database
files:
  - {path: /etc/heat/heat.conf, template: heat.conf.j2, mode: "0640", format: oslo}
databases:
  - {name: heat, user: heat, secret: heat.database}
settings:
  depth: {type: integer, default: 5, minimum: 1, description: How deep}
"""
TEMPLATE = '[DEFAULT]\ndepth = {{ settings.depth }}\n[database]\nconnection = {{ database_url("heat") }}\n'


def folder(directory: Path, text: str = NOT_SHIPPED, template: str = TEMPLATE) -> Path:
    (directory / "heat").mkdir(parents=True)
    (directory / "heat" / "component.yaml").write_text(text)
    (directory / "heat" / "heat.conf.j2").write_text(template)
    return directory


def test_adding_a_component_is_adding_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEVIER_COMPONENT_DIRS", str(folder(tmp_path)))
    text = ONE_NIC.replace("settings: {", "settings: {heat: {depth: 7, config: {heat.conf: {DEFAULT: {more: 1}}}}, ", 1)
    site = site_in(text)
    components = load_components([tmp_path])
    names = [each.name for each in components_of(site, site.node("one"), components)]
    assert names.index("heat") > names.index("keystone")
    view = view_site(site, components, ONE_NIC_ADDRESSES)
    (file,) = render_component(components, "heat", site=site, view=view, host="one").files
    password = "@{secret:heat.database:password:url}"
    url = f"mysql+pymysql://heat:{password}@10.77.0.10:3306/heat?charset=utf8mb4"
    assert file.content == f"[DEFAULT]\ndepth = 7\nmore = 1\n[database]\nconnection = {url}\n"


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("needs: [keystone]", "need: [keystone]", 4, "unknown key; did you mean 'needs'?"),
        ('mode: "0640"', "mode: 640", 8, "640"),
        ("format: oslo", "format: toml", 8, "'toml' is not known here"),
        ("heat.conf.j2", "heat.cnf.j2", 8, "there is no template heat.cnf.j2; did you mean 'heat.conf.j2'?"),
        ("name: heat\n", "name: cold\n", 1, "the folder is named heat"),
        ("summary:", "sumary:", 2, "unknown key; did you mean 'summary'?"),
        ("secret: heat.database}", "secret: heat.db}", 1, "the secret heat.db is not declared"),
        ("default: 5", "default: five", 12, "the default does not fit"),
        ("default: 5", "default: 0", 12, "0 is out of bounds"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    assert old in NOT_SHIPPED
    with pytest.raises(ComponentInvalid) as caught:
        load_components([folder(tmp_path, NOT_SHIPPED.replace(old, new, 1))])
    assert f"heat/component.yaml:{line}:" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("x = {{ settings.deph }}", "deph"),
        ("x = {{ secret('nova.user') }}", "refers to the secret nova.user, which the component does not declare"),
        ("x = {{ hosts_with('heat') | unknown }}", "unknown"),
        ("x = {{ address_of('haproxy') }}", "has to reach haproxy, which runs on no host"),
        ("x = {{ database_url('warm') }}", "no component declares the database 'warm'"),
    ],
)
def test_a_template_that_asks_for_what_is_not_there_fails(tmp_path: Path, template: str, words: str) -> None:
    site = site_in(ONE_NIC)
    components = load_components([folder(tmp_path, template=template)])
    view = view_site(site, components, ONE_NIC_ADDRESSES)
    with pytest.raises(InvalidRequest) as caught:
        render_component(components, "heat", site=site, view=view, host="one")
    assert words in str(caught.value)


def test_a_unit_that_must_not_be_restarted_says_so(tmp_path: Path) -> None:
    units = "units: [{name: heat.service}, {name: heat-engine.service, restarts: false}]\nsettings:"
    components = load_components([folder(tmp_path, NOT_SHIPPED.replace("settings:", units, 1))])
    site = site_in(ONE_NIC)
    view = view_site(site, components, ONE_NIC_ADDRESSES)
    heat = render_component(components, "heat", site=site, view=view, host="one")
    assert heat.units == ("heat.service", "heat-engine.service")
    assert heat.steady_units == ("heat-engine.service",)


def test_another_host_restarts_the_bridges_of_all_and_the_switch_of_none() -> None:
    alone = ONE_NIC[: ONE_NIC.index("  - name: two")]
    before, after = (rendered(site_in(text), "one", "openvswitch") for text in (alone, ONE_NIC))
    changed = {file.path for file in after.files if file.restarts} - {f.path for f in before.files if f in after.files}
    assert changed == {"/etc/levier/openvswitch/bridges"}
    assert set(after.units) - set(after.steady_units) == {"levier-bridges.service"}


def test_a_secret_in_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    site = site_in(ONE_NIC)
    components = load_components([folder(tmp_path, NOT_SHIPPED.replace('"0640"', '"0644"'))])
    view = view_site(site, components, ONE_NIC_ADDRESSES)
    with pytest.raises(InvalidRequest, match="has mode 0644"):
        render_component(components, "heat", site=site, view=view, host="one")


def test_a_need_that_does_not_exist_and_a_circle_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="needs 'keystoen', which does not exist"):
        load_components([folder(tmp_path / "a", NOT_SHIPPED.replace("[keystone]", "[keystoen]"))])
    other = NOT_SHIPPED.replace("[keystone]", "[heat]")
    with pytest.raises(InvalidRequest, match="in a circle: heat → heat"):
        load_components([folder(tmp_path / "b", other)])


def test_the_order_of_installing_is_that_of_the_projects() -> None:
    order = [each.name for each in dependency_order(shipped().values())]
    documented = ["mariadb", "keystone", "glance", "placement", "nova-api", "neutron-server", "nova-compute"]
    assert [each for each in order if each in documented] == documented
    for component in shipped().values():
        for need in (*component.needs, *component.beside, *component.after):
            assert order.index(need) < order.index(component.name)


def test_a_site_that_leaves_out_what_others_need_is_told() -> None:
    text = ONE_NIC.replace("without: [nova-novncproxy]", "without: [nova-novncproxy, rabbitmq]")
    sentences = missing_needs(site_in(text), shipped())
    assert "nova-compute needs rabbitmq, which no host runs" in sentences
    assert not missing_needs(site_in(TWO_ZONES), shipped())


NFS = "{cinder-volume: {backend: nfs, nfs_shares: ['10.77.0.5:/srv/volumes']}, "
LVM = "{cinder-volume: {backend: lvm}, "


@pytest.mark.parametrize(
    ("volumes", "named", "hosts"),
    [
        (NFS, "nfs-client", "two needs nfs-client"),
        (LVM, "open-iscsi", "one, two need open-iscsi"),
    ],
)
def test_compute_hosts_that_could_not_attach_the_sites_volumes_are_told(volumes: str, named: str, hosts: str) -> None:
    text = ONE_NIC.replace("settings: {", f"settings: {volumes}", 1)
    (sentence,) = missing_needs(site_in(text), shipped())
    assert sentence.startswith(f"{hosts} beside nova-compute, else its servers cannot be given volumes")
    assert f"also: [{named}]" in sentence
    met = text.replace("roles:\n", f"roles:\n  - {{name: compute, also: [{named}]}}\n", 1)
    assert missing_needs(site_in(met), shipped()) == ()


@pytest.mark.parametrize("role", ["controller", "compute"])
def test_what_can_be_on_one_host_only_is_not_on_two(role: str) -> None:
    text = ONE_NIC.replace("    roles: [compute]\n", f"    roles: [{role}]\n", 1)
    sentences = missing_needs(site_in(text), shipped())
    refused = {"glance", "mariadb", "rabbitmq"} if role == "controller" else set()
    assert {sentence.partition(" ")[0] for sentence in sentences} == refused
    assert all(" is on one, two, and can be on one host only: " in sentence for sentence in sentences)


def test_a_directory_of_the_storage_host_itself_asks_nothing_of_compute_hosts() -> None:
    assert missing_needs(site_in(ONE_NIC), shipped()) == ()


def test_the_plan_of_an_installation_is_refused_with_the_way_out() -> None:
    site = site_in(ONE_NIC.replace("settings: {", f"settings: {NFS}", 1))
    with pytest.raises(InvalidRequest, match=r"two needs nfs-client .*also: \[nfs-client\]"):
        install_stages(site, shipped(), expand=(), to_expand=())


def test_a_storage_host_that_is_set_otherwise_decides() -> None:
    """Settings of a host count, not only those of the site."""
    text = ONE_NIC.replace("    roles: [controller, network, compute, storage]\n", OTHERWISE, 1)
    (sentence,) = missing_needs(site_in(text), shipped())
    assert "open-iscsi" in sentence


OTHERWISE = """\
    roles: [controller, network, compute, storage]
    settings: {cinder-volume: {backend: lvm}}
"""


def test_companions_name_components_and_settings_that_exist(tmp_path: Path) -> None:
    companion = "companions: [{hosts_with: keystone, need: [keystone], when: {DEPTH: 1}, why: it is deep}]\n"
    with pytest.raises(ComponentInvalid, match="companions: there is no setting width"):
        load_components([folder(tmp_path / "a", NOT_SHIPPED + companion.replace("DEPTH", "width"))])
    misspelt = companion.replace("DEPTH", "depth").replace("need: [keystone]", "need: [keystoen]")
    with pytest.raises(InvalidRequest, match="needs 'keystoen', which does not exist"):
        load_components([folder(tmp_path / "b", NOT_SHIPPED + misspelt)])


def test_a_pillar_without_an_address_is_told_with_the_way_out() -> None:
    with pytest.raises(NotFound, match="one has no address on the internal network yet") as caught:
        view_site(site_in(ONE_NIC), shipped(), {("two", "provisioning"): "10.77.0.11"})
    assert "levier expand one" in caught.value.hint


def test_a_compute_host_without_an_address_keeps_no_other_from_being_configured() -> None:
    """It fell during an installation, and was undone: its address is free again."""
    site = site_in(ONE_NIC)
    view = view_site(site, shipped(), {("one", "provisioning"): "10.77.0.10"})
    names = [each.name for each in components_of(site, site.node("one"), shipped())]
    with_two = {name: rendered(site, "one", name) for name in names}
    without = {name: render_component(shipped(), name, site=site, view=view, host="one") for name in with_two}
    assert {name for name in with_two if without[name] != with_two[name]} == {"openvswitch"}, "no peer for its frames"
    assert "10.77.0.11" not in str(without["openvswitch"].files)
    with pytest.raises(NotFound, match="two has no address on the internal network yet"):
        render_component(shipped(), "openvswitch", site=site, view=view, host="two")


def test_every_role_has_components_and_every_component_can_be_rendered_where_it_runs() -> None:
    used = {role for component in shipped().values() for role in component.roles}
    assert used == set(Role)
    site = site_in(TWO_ZONES)
    on_the_site = {each.name for node in site.nodes for each in components_of(site, node, shipped())}
    assert on_the_site == set(shipped())


def test_commands_carry_no_secret_and_run_as_their_user() -> None:
    site = site_in(TWO_ZONES)
    bootstrap = next(each for each in rendered(site, "a1-01", "keystone").actions if each.name == "bootstrap")
    script = shell_script(bootstrap.command, user=bootstrap.user, environment_file=bootstrap.environment_file)
    assert "exec runuser -u keystone -- /opt/levier/current/keystone/bin/keystone-manage" in script
    assert ". /etc/levier/keystone/bootstrap.env" in script
    assert "secret" not in script


def test_bootstrap_is_given_no_url_for_it_overwrites_those_there_are() -> None:
    site = site_in(TWO_ZONES)
    keystone = rendered(site, "a1-01", "keystone")
    bootstrap = next(each for each in keystone.actions if each.name == "bootstrap")
    environment = next(each for each in keystone.files if each.path == bootstrap.environment_file)
    assert not [word for word in bootstrap.command if "url" in word or "://" in word]
    assert "URL" not in environment.content


def test_a_compute_host_keeps_its_identity_whenever_it_is_rendered() -> None:
    site = site_in(TWO_ZONES)
    ids = {host: rendered(site, host, "nova-compute").files[1].content for host in ("a1-02", "b1-01")}
    again = {host: rendered(site_in(TWO_ZONES), host, "nova-compute").files[1].content for host in ids}
    assert ids == again
    assert len(set(ids.values())) == 2


def test_the_schema_knows_every_key() -> None:
    assert "catalog" in component_schema()["properties"]
