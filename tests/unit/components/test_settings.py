"""Which settings hold on a host, and what a site file may not say of components."""

from __future__ import annotations

import pytest

from levier.domain.component_settings import effective_settings, settings_findings
from levier.services.components import components_of
from levier.services.components.ini import merged
from levier.services.components.installed import known_options
from levier.services.components.option_sections import naming_options
from tests.unit.components.sites import ONE_NIC, TWO_ZONES, rendered, shipped, site_in, view_of
from tests.unit.components.test_golden import HOSTS, SITES
from tests.unit.site_samples import position_of, refusal


def test_the_overlay_goes_from_site_over_zone_and_role_to_host() -> None:
    site = site_in(TWO_ZONES)
    component = shipped()["nova-compute"]
    chosen = {
        host: {
            name: (each.value, each.origin)
            for name, each in effective_settings(site, site.node(host), component).chosen.items()
        }
        for host in ("a1-02", "b1-01")
    }
    assert chosen["a1-02"] == {"hypervisor": ("kvm", "site"), "reserved_memory_mib": (1024, "site")}
    assert chosen["b1-01"] == {"hypervisor": ("qemu", "zone b"), "reserved_memory_mib": (256, "host b1-01")}


def test_raw_options_are_merged_into_the_file_and_a_list_repeats_the_option() -> None:
    site = site_in(TWO_ZONES)
    lines = rendered(site, "b1-01", "nova-compute").files[0].content.splitlines()
    assert lines.count("max_concurrent_builds = 4") == 1
    place = lines.index("[pci]")
    assert lines[place + 1 : place + 3] == ['device_spec = {"address": "1"}', 'device_spec = {"address": "2"}']
    assert lines.index("max_concurrent_builds = 4") < lines.index(
        "[api_database]" if "[api_database]" in lines else "[wsgi]"
    )


def test_a_role_overlays_only_its_own_hosts() -> None:
    site = site_in(TWO_ZONES.replace("  - name: compute\n", "  - name: network\n"))
    content = rendered(site, "b1-01", "nova-compute").files[0].content
    assert "max_concurrent_builds" not in content


def test_merging_keeps_comments_and_order_and_repeats_safely() -> None:
    text = "# head\n[a]\nx = 1\n# why\ny = 2\nx = 3\n\n[b]\nz = 1\n"
    wanted = {"a": {"x": "new", "w": [1, 2]}, "c": {"flag": True}}
    once = merged(text, wanted)
    assert once == "# head\n[a]\nx = new\n# why\ny = 2\nw = 1\nw = 2\n\n[b]\nz = 1\n\n[c]\nflag = true\n"
    assert merged(once, wanted) == once


# (case, old, new, where the error points, path, words of the message, words of what would be right)
CASES = [
    (
        "component",
        "  keystone:\n",
        "  keystoen:\n",
        "keystoen",
        "settings.keystoen",
        "there is no component named 'keystoen'",
        "did you mean 'keystone'?",
    ),
    (
        "setting",
        "token_lifetime_s:",
        "token_life_s:",
        "token_life_s",
        "settings.keystone.token_life_s",
        "keystone has no setting named",
        "did you mean 'token_lifetime_s'?",
    ),
    (
        "type",
        "token_lifetime_s: 7200",
        "token_lifetime_s: long",
        "long",
        "settings.keystone.token_lifetime_s",
        "'long' is not a whole number",
        "a whole number",
    ),
    (
        "bounds",
        "token_lifetime_s: 7200",
        "token_lifetime_s: 1",
        "1\n    config",
        "settings.keystone.token_lifetime_s",
        "1 is out of bounds",
        "at least 60",
    ),
    (
        "choice",
        "{hypervisor: qemu}",
        "{hypervisor: xen}",
        "xen",
        "zones[1].settings.nova-compute.hypervisor",
        "'xen' is not known here",
        "kvm, qemu, fake",
    ),
    (
        "file",
        "keystone.conf:",
        "keystone.cnf:",
        "keystone.cnf",
        'settings.keystone.config["keystone.cnf"]',
        "keystone has no file named",
        "did you mean 'keystone.conf'?",
    ),
    (
        "option",
        "allow_rescope_scoped_token: false",
        "allow_rescope_scope_token: false",
        "allow_rescope_scope",
        'settings.keystone.config["keystone.conf"].token.allow_rescope_scope_token',
        "there is no option named",
        "did you mean 'allow_rescope_scoped_token'?",
    ),
    (
        "section",
        "{token: {allow_rescope_scoped_token: false}}",
        "{tokn: {allow_rescope_scoped_token: false}}",
        "tokn",
        'settings.keystone.config["keystone.conf"].tokn',
        "there is no section named 'tokn' here",
        "did you mean 'token'?",
    ),
    (
        "section like no other",
        "{token: {allow_rescope_scoped_token: false}}",
        "{zzzz: {allow_rescope_scoped_token: false}}",
        "zzzz",
        'settings.keystone.config["keystone.conf"].zzzz',
        "there is no section named 'zzzz' here",
        "expected a section of this release",
    ),
    (
        "option of a backend of Levier's",
        "{backend: lvm, volume_devices: [/dev/vdb]}",
        "{config: {cinder.conf: {lvm: {lvm_typ: thin}}}}",
        "lvm_typ:",
        'nodes[2].settings.cinder-volume.config["cinder.conf"].lvm.lvm_typ',
        "there is no option named 'lvm_typ' here",
        "did you mean 'lvm_type'?",
    ),
    (
        "value of an option",
        "allow_rescope_scoped_token: false",
        "expiration: {a: 1}",
        "{a: 1}",
        'settings.keystone.config["keystone.conf"].token.expiration',
        "no value of an option",
        "a text, a number",
    ),
    (
        "line break",
        "allow_rescope_scoped_token: false",
        'expiration: "1\\n[x]"',
        '"1\\n',
        'settings.keystone.config["keystone.conf"].token.expiration',
        "has line breaks",
        "one line",
    ),
    (
        "component of a role",
        "also: [haproxy,",
        "also: [hapoxy,",
        "hapoxy",
        "roles[0].also[0]",
        "there is no component named 'hapoxy'",
        "did you mean 'haproxy'?",
    ),
    (
        "setting of a host",
        "{reserved_memory_mib: 256}",
        "{reserved_memory: 256}",
        "reserved_memory:",
        "nodes[2].settings.nova-compute.reserved_memory",
        "nova-compute has no setting",
        "did you mean 'reserved_memory_mib'?",
    ),
    (
        "role",
        "- {name: controller,",
        "- {name: controler,",
        "controler",
        "roles[0].name",
        "'controler' is not known here",
        "did you mean 'controller'?",
    ),
    (
        "internal network",
        "internal_network: management",
        "internal_network: managment",
        "managment",
        "openstack.internal_network",
        "there is no internal_network named",
        "did you mean 'management'?",
    ),
    (
        "release",
        'release: "2026.2"',
        "release: next",
        "next",
        "release",
        "'next' is not the name of a release",
        "2026.2",
    ),
]


@pytest.mark.parametrize(
    ("case", "old", "new", "at", "path", "message", "expected"), CASES, ids=[each[0] for each in CASES]
)
def test_what_no_component_knows_is_refused_where_it_stands(
    case: str, old: str, new: str, at: str, path: str, message: str, expected: str
) -> None:
    assert old in TWO_ZONES
    text = TWO_ZONES.replace(old, new, 1)
    (problem,) = refusal(text).problems
    assert problem.path == path
    assert message in problem.message
    assert expected in problem.expected
    assert (problem.line, problem.column) == position_of(text, at)


def test_options_are_those_of_the_sites_own_series() -> None:
    """Never those of another series: what only one of them has is an error in the other."""
    lists = {
        series: {(s, o) for s, names in of["nova"].items() for o in names} for series, of in known_options().items()
    }
    section, option = min(lists["2026.2"] - lists["2026.1"])
    text = TWO_ZONES.replace("{DEFAULT: {max_concurrent_builds: 4}", f"{{{section}: {{{option}: 4}}")
    site_in(text)
    (problem,) = refusal(text.replace('"2026.2"', "2026.1.2")).problems
    assert f"there is no option named {option!r} here" in problem.message


def test_a_series_whose_options_nobody_listed_is_told_so_and_is_free_of_them_without_config() -> None:
    text = TWO_ZONES.replace('"2026.2"', "2027.1.1")
    problems = refusal(text).problems
    assert [each.path for each in problems] == [
        'settings.keystone.config["keystone.conf"]',
        'roles[1].settings.nova-compute.config["nova.conf"]',
    ]
    assert {each.message for each in problems} == {
        "Levier has no list of the options of 2027.1, so none can be checked"
    }
    assert {each.expected for each in problems} == {"expected a release of 2026.1 or 2026.2"}
    assert site_in(ONE_NIC.replace("site: {name: lab}", 'site: {name: lab}\nrelease: "2027.1"')).release == "2027.1"


def test_a_program_that_no_list_has_is_checked_in_no_series() -> None:
    keystone = shipped()["keystone"]
    files = tuple(each.model_copy(update={"options": "ours"}) for each in keystone.files)
    components = {"keystone": keystone.model_copy(update={"files": files})}
    config = {"keystone.conf": {"token": {"whatever": 1}}}
    for release in ("2026.2", "2027.1", None):
        document = {"release": release, "settings": {"keystone": {"config": config}}}
        assert settings_findings(document, components, known_options(), naming_options()) == ()
        assert settings_findings(document, shipped(), known_options(), naming_options())


def findings_of(**config_by_level: dict[str, object]) -> list[tuple[str, str]]:
    """(last key, message) of what is wrong with cinder.conf of cinder-volume as the site and a zone have it."""
    settings = {level: {"cinder-volume": {"config": {"cinder.conf": each}}} for level, each in config_by_level.items()}
    document = {"settings": settings.get("site", {}), "zones": [{"name": "a", "settings": settings.get("zone", {})}]}
    findings = settings_findings(document, shipped(), known_options(), naming_options())
    return [(str(each.path[-1]), each.message) for each in findings]


def test_a_section_that_an_option_of_any_level_names_is_a_section_with_a_backends_options() -> None:
    ceph: dict[str, object] = {"ceph": {"rbd_pool": "volumes"}}
    named: dict[str, object] = {"DEFAULT": {"enabled_backends": "lvm, ceph"}}
    assert findings_of(site=named | ceph) == []
    assert findings_of(site=ceph, zone=named) == []
    assert findings_of(site=named, zone={"ceph": {"rbd_pol": "x"}}) == [
        ("rbd_pol", "there is no option named 'rbd_pol' here")
    ]
    assert findings_of(site=ceph) == [("ceph", "there is no section named 'ceph' here")]


@pytest.mark.parametrize(
    ("component", "file", "sections"),
    [
        ("glance", "glance-api.conf", {"DEFAULT": {"enabled_backends": "fast:rbd"}, "fast": {"rbd_store_pool": "i"}}),
        (
            "nova-compute",
            "nova.conf",
            {"devices": {"enabled_mdev_types": ["nvidia-35"]}, "mdev_nvidia-35": {"mdev_class": "VGPU"}},
        ),
        ("nova-compute", "nova.conf", {"profiler": {"enabled": True}, "privsep_osbrick": {"thread_pool_size": 2}}),
        ("neutron-openvswitch-agent", "openvswitch_agent.ini", {"fdb": {"shared_physical_device_mappings": "a:b"}}),
        ("cinder-api", "cinder.conf", {"nova": {"username": "other"}, "service_user": {"auth_type": "password"}}),
    ],
)
def test_sections_that_no_generator_lists_and_the_program_has_are_known(
    component: str, file: str, sections: dict[str, dict[str, object]]
) -> None:
    for release in ("2026.1", "2026.2"):
        document = {"release": release, "settings": {component: {"config": {file: sections}}}}
        assert settings_findings(document, shipped(), known_options(), naming_options()) == ()


@pytest.mark.parametrize(("case", "host"), HOSTS)
def test_every_section_of_a_rendered_file_may_stand_in_the_site_file_too(case: str, host: str) -> None:
    site = site_in(SITES[case])
    for component in components_of(site, site.node(host), shipped()):
        for file in rendered(site, host, component.name).files:
            if not file.options:
                continue
            sections = {line.strip("[]"): {} for line in file.content.splitlines() if line.startswith("[")}
            config = {file.path.rsplit("/", 1)[1]: sections}
            for release in known_options():
                document = {"release": release, "settings": {component.name: {"config": config}}}
                assert settings_findings(document, shipped(), known_options(), naming_options()) == ()


def test_what_a_role_leaves_out_and_adds_is_what_its_hosts_run() -> None:
    view = {each.name: each.components for each in view_of(site_in(ONE_NIC)).hosts}
    assert "nova-novncproxy" not in view["one"]
    assert "haproxy" not in view["one"]
    assert set(view["two"]) == {"libvirt", "openvswitch", "neutron-openvswitch-agent", "nova-compute"}
