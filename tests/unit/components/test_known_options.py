"""Every option that a template writes is one of the release's: the list is of the release's own generator.

That the list is true, and the real oslo-config-validator's verdict, is tests/long/long_component_options.py.
"""

from __future__ import annotations

import pytest

from levier.services.components import components_of
from levier.services.components.installed import known_options
from levier.services.components.option_lists import foreign_sections, namespaces
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


@pytest.mark.parametrize(("case", "host"), HOSTS)
def test_every_option_is_one_of_the_release(case: str, host: str) -> None:
    site = site_in(SITES[case])
    checked = 0
    for component in components_of(site, site.node(host), shipped()):
        for file in rendered(site, host, component.name).files:
            if file.options is None:
                continue
            known = known_options("2026.2")[file.options]
            own = {name for name in options_in(file.content) if name[0] not in foreign_sections(file.options)}
            assert own
            unknown = {(section, option) for section, option in own if option not in known.get(section, ())}
            assert not unknown, f"{file.path} of {component.name}"
            checked += len(own)
    assert checked > 50


def test_every_oslo_file_names_whose_options_it_holds() -> None:
    programs = {file.options for each in shipped().values() for file in each.files if file.format == "oslo"}
    assert programs == set(namespaces())
