"""`deployments/prefect.yaml` and how a faulty one is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prefect.flows import Flow, load_flow_from_entrypoint

from flows.deployments import DeploymentEntry, default_file, parameter_descriptions, read_file
from levier.domain.errors import InvalidRequest

ENTRIES = read_file(default_file())


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_deployment_leads_to_a_flow_whose_parameters_are_described(entry: DeploymentEntry) -> None:
    flow: Flow[..., Any] = load_flow_from_entrypoint(entry.entrypoint)
    assert flow.name == entry.name
    described = parameter_descriptions(flow)
    properties = flow.parameters.properties
    assert [name for name in properties if not (described.get(name) or properties[name].get("description"))] == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("deployments: [", "cannot read"),
        ("name: x", "deployments"),
        ("deployments:\n- {name: a, entrypoint: flows/expand.py:expand}", "entrypoint"),
        ("deployments:\n- {name: a, entrypoint: flows.expand.expand, colour: red}", "colour"),
        ("deployments:\n- {name: a, entrypoint: f.f, schedules: [{interval: 0}]}", "interval"),
    ],
)
def test_a_faulty_file_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(InvalidRequest, match=said) as caught:
        read_file(tmp_path / "prefect.yaml")
    assert "prefect.yaml" in str(caught.value)


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"none\.yaml"):
        read_file(tmp_path / "none.yaml")
