"""Every option that a template writes is one of the release's: the list is of the release's own generator.

That the list is true, and the real oslo-config-validator's verdict, is tests/long/long_component_options.py.
"""

from __future__ import annotations

import pytest

from levier.domain.errors import InvalidRequest
from levier.domain.site import Site
from levier.services.components import components_of
from levier.services.components.installed import known_options, listed_options
from levier.services.components.option_lists import for_validator
from levier.services.components.option_sections import foreign_sections, namespaces, naming_options
from levier.services.release_catalogue import ReleaseCatalogue, shipped_directory
from tests.unit.components.sites import ONE_NIC, TWO_ZONES, rendered, shipped, site_in
from tests.unit.components.test_golden import HOSTS

SITES = {"two-zones": TWO_ZONES, "one-nic": ONE_NIC}


def options_in(text: str) -> set[tuple[str, str]]:
    section, found = "", set()
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line and not line.startswith("#"):
            found.add((section, line.split("=", 1)[0].strip()))
    return found


def site_of(case: str, series: str) -> Site:
    return site_in(SITES[case]).model_copy(update={"release": series})


def test_every_series_that_is_shipped_has_a_list() -> None:
    assert {each.spec.series for each in ReleaseCatalogue(shipped_directory()).all()} == set(known_options())


def test_the_lists_differ_and_each_knows_every_program() -> None:
    """Else one series could be checked against the other's."""
    assert {frozenset(each) for each in known_options().values()} == {frozenset(namespaces())}
    nova = [each["nova"] for each in known_options().values()]
    assert all(one != other for index, one in enumerate(nova) for other in nova[index + 1 :])


@pytest.mark.parametrize("series", sorted(known_options()))
@pytest.mark.parametrize(("case", "host"), HOSTS)
def test_every_option_is_one_of_the_release(case: str, host: str, series: str) -> None:
    site = site_of(case, series)
    checked = 0
    for component in components_of(site, site.node(host), shipped()):
        for file in rendered(site, host, component.name).files:
            if file.options is None:
                continue
            known = known_options()[series][file.options]
            own = options_in(file.content)
            assert own
            unknown = {(section, option) for section, option in own if option not in known.get(section, ())}
            assert not unknown, f"{file.path} of {component.name}"
            checked += len(own)
    assert checked > 50


def test_every_oslo_file_names_whose_options_it_holds() -> None:
    programs = {file.options for each in shipped().values() for file in each.files if file.format == "oslo"}
    assert programs == set(namespaces())


@pytest.mark.parametrize("program", sorted(namespaces()))
def test_what_the_data_says_of_sections_is_about_sections_that_there_are(program: str) -> None:
    for series, lists in listed_options().items():
        alike = {name for names in foreign_sections(program).values() for name in names}
        alike |= {name for each in naming_options().get(program, ()) for name in each.alike}
        owners = [(owner or program, section) for owner, _, section in (each.rpartition("/") for each in alike)]
        missing = [(owner, section) for owner, section in owners if not lists[owner].get(section)]
        assert not missing, f"{program} of {series}"
        assert not set(foreign_sections(program)) & set(lists[program]), (
            f"{program} of {series}: the generator lists it"
        )
        for each in naming_options().get(program, ()):
            assert each.option in lists[program][each.section]


@pytest.mark.parametrize(("case", "host"), HOSTS)
def test_the_validator_is_given_sections_of_the_programs_own_list_only(case: str, host: str) -> None:
    """So that it passes over none: backends and contexts stand under the section whose options they have."""
    site = site_of(case, "2026.2")
    for component in components_of(site, site.node(host), shipped()):
        for file in rendered(site, host, component.name).files:
            if file.options:
                sections = {section for section, _option in options_in(for_validator(file.options, file.content))}
                assert sections <= set(listed_options()["2026.2"][file.options]), f"{file.path} of {component.name}"


def test_what_the_validator_is_given_keeps_every_option_but_those_of_the_login() -> None:
    text = "[lvm]\nlvm_type = thin\n[nova]\ninterface = internal\nusername = u\n[coordination]\nbackend_url = x\n"
    wanted = "[backend_defaults]\nlvm_type = thin\n[nova]\ninterface = internal\n[coordination]\nbackend_url = x\n"
    assert for_validator("cinder", text) == wanted
    with pytest.raises(InvalidRequest, match="no section like"):
        for_validator("nova", "[neutron_tunnel]\nnuma_nodes = 0\n")
