"""What an installation does where, and what must be there before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from site_samples import site_of

from levier.domain.component import Component
from levier.domain.errors import InvalidRequest
from levier.domain.install_plan import TAKE, InstallStage, install_stages, pillars, planned
from levier.domain.site import Role, Site
from levier.services.components import load_components

HOSTS = (("c1", "a1", "controller"), ("c2", "b1", "controller"), ("n1", "a1", "compute"), ("n2", "b1", "compute"))


def site(hosts: Sequence[tuple[str, str, str]] = HOSTS) -> Site:
    return site_of(hosts)


def component(name: str, **fields: Any) -> Component:
    return Component.model_validate({"name": name, "summary": name, **fields})


def action(name: str, when: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "summary": name, "when": when, "command": ["true"], "repeatable": True, **fields}


COMPONENTS = {
    each.name: each
    for each in (
        component("mariadb", roles=[Role.CONTROLLER]),
        component(
            "store",
            roles=[Role.CONTROLLER],
            needs=["mariadb"],
            secrets=[{"name": "store.database"}],
            databases=[{"name": "store", "user": "store", "secret": "store.database"}],
            actions=[
                action("schema", "before-start"),
                action("seed", "after-start", reach="every-host"),
                action("meet", "after-join", joins="clerk"),
            ],
        ),
        component("clerk", roles=[Role.COMPUTE], needs=["store"]),
    )
}


def stages(hosts: Sequence[tuple[str, str, str]] = HOSTS, **wanted: Any) -> tuple[InstallStage, ...]:
    wanted = {"expand": ("power-on", "boot-host"), "to_expand": ("n2",)} | wanted
    return install_stages(site(hosts), COMPONENTS, **wanted)


def test_each_stage_builds_on_those_before_it() -> None:
    assert [stage.title for stage in stages()] == [
        "hosts",
        "software",
        "configure mariadb",
        "start mariadb",
        "configure store",
        "prepare store",
        "start store",
        "complete store",
        "configure clerk",
        "start clerk",
        "join",
        "in service",
    ]


def test_a_node_that_is_not_ready_is_expanded_and_a_ready_one_is_taken() -> None:
    hosts = stages()[0].steps
    assert [step for step, host in hosts if host == "n2"] == ["power-on", "boot-host", "reach-host"]
    assert [step for step, host in hosts if host == "n1"] == list(TAKE)


def test_a_database_is_made_where_the_databases_are() -> None:
    by_title = {stage.title: stage.steps for stage in stages()}
    assert by_title["configure store"] == (
        ("configure-store", "c1"),
        ("configure-store", "c2"),
        ("database-store", "c1"),
    )


def test_a_schema_is_made_once_and_other_actions_where_they_reach() -> None:
    by_title = {stage.title: stage.steps for stage in stages()}
    assert by_title["prepare store"] == (("store-schema", "c1"),)
    assert by_title["complete store"] == (("store-seed", "c1"), ("store-seed", "c2"))
    assert by_title["join"] == (("store-meet", "c1"),)


def test_nobody_joins_where_there_is_no_such_host() -> None:
    assert "join" not in [stage.title for stage in stages(HOSTS[:2])]


def test_hosts_that_others_build_on_are_pillars() -> None:
    assert pillars(site(), COMPONENTS) == {"c1", "c2"}


def test_a_stage_is_a_wave_of_the_plan() -> None:
    plan = planned(stages())
    assert [p.wave for p in plan] == sorted(p.wave for p in plan)
    assert {p.wave for p in plan} == set(range(len(stages())))
    assert len({(p.step, p.target) for p in plan}) == len(plan)


@pytest.mark.parametrize(
    ("hosts", "cause"),
    [
        (HOSTS[2:], "clerk needs store, which no host runs"),
        ((("s1", "a1", ""),), "no node has a role"),
    ],
)
def test_a_site_that_cannot_work_is_refused_with_the_cause(hosts: Sequence[tuple[str, str, str]], cause: str) -> None:
    with pytest.raises(InvalidRequest, match=cause):
        stages(hosts)


WITH_SHIPPED = (("c1", "a1", "controller"), ("c2", "b1", "network"), *HOSTS[2:])
"""Of what is shipped some can be on one host only."""


def test_all_components_that_are_shipped_find_their_place() -> None:
    components = load_components()
    wanted = site(WITH_SHIPPED)
    plan = planned(install_stages(wanted, components, expand=(), to_expand=()))
    first = {(p.step, p.target): p.wave for p in plan}
    for each in components.values():
        for need in each.needs:
            for (step, _), wave in first.items():
                if step == f"configure-{each.name}":
                    assert max(w for (s, _), w in first.items() if s == f"start-{need}") < wave
    assert pillars(wanted, components) == {"c1"}


def test_keystone_s_own_entries_are_made_once_it_runs_and_before_anybody_else_starts() -> None:
    plan = planned(install_stages(site(WITH_SHIPPED), load_components(), expand=(), to_expand=()))
    wave = {(p.step, p.target): p.wave for p in plan}
    own = wave["catalog-keystone", "c1"]
    assert max(w for (step, _), w in wave.items() if step == "start-keystone") < own
    others = [w for (step, _), w in wave.items() if step.startswith("catalog-") and step != "catalog-keystone"]
    assert others
    assert own < min(others)
    assert [step for step, _ in wave].count("catalog-keystone") == 1


def test_the_cloud_is_tried_before_it_is_in_service() -> None:
    plan = install_stages(site(WITH_SHIPPED), load_components(), expand=(), to_expand=())
    assert [(stage.title, stage.steps) for stage in plan[-5:-1]] == [
        ("smoke test: prepared", (("smoke-prepare", "c1"),)),
        ("smoke test: servers", (("smoke-server", "n1"), ("smoke-server", "n2"))),
        ("smoke test: checks", (("smoke-check", "n1"), ("smoke-check", "n2"))),
        ("smoke test: removed", (("smoke-remove", "c1"),)),
    ]
    assert plan[-1].title == "in service"
    assert ("availability-zones", "c1") in [step for stage in plan[:-5] for step in stage.steps]


def test_without_compute_hosts_as_much_is_tried_as_there_is() -> None:
    plan = install_stages(site(HOSTS[:1]), load_components(), expand=(), to_expand=())
    assert [stage.title for stage in plan[-3:]] == ["smoke test: prepared", "smoke test: removed", "in service"]
