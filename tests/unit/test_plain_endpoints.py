"""Public endpoints without TLS are told where somebody would rely on them: with the plan, and with the login."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from levier.cli import app
from levier.cli import cloud as cloud_commands
from levier.cli import operation as operation_commands
from levier.cli.cloud import PLAIN_HTTP


def answering(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    for module in (cloud_commands, operation_commands):
        monkeypatch.setattr(module, "connect", lambda: SimpleNamespace(get=lambda *_, **__: answer))


def plan(*started: str) -> list[dict[str, Any]]:
    steps = [f"start-{each}" for each in started]
    return [{"stage": "start", "estimate_s": 1.0, "steps": [{"hosts": ["a1-01"], "steps": steps}]}]


def said(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


@pytest.mark.parametrize(
    ("started", "told"),
    [(["keystone"], True), (["keystone", "haproxy"], False), (["mariadb"], False)],
    ids=["no TLS", "TLS", "no endpoints"],
)
def test_a_plan_tells_that_endpoints_are_plain(monkeypatch: pytest.MonkeyPatch, started: list[str], told: bool) -> None:
    answering(monkeypatch, plan(*started))
    assert (PLAIN_HTTP in said("install", "--dry-run")) == told


def test_a_plan_in_json_is_the_plan_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, plan("keystone"))
    assert json.loads(said("install", "--dry-run", "--json")) == plan("keystone")


@pytest.mark.parametrize(("scheme", "told"), [("http", True), ("https", False)])
def test_a_login_tells_that_endpoints_are_plain(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str, told: bool
) -> None:
    entry = {"auth": {"auth_url": f"{scheme}://10.77.0.11:5000/v3"}}
    answering(monkeypatch, {"name": "demo", "entry": entry, "ca": None})
    assert (PLAIN_HTTP in said("cloud", "access", "--directory", str(tmp_path))) == told
    in_json = said("cloud", "access", "--directory", str(tmp_path), "--json")
    assert json.loads(in_json) == {"file": str(tmp_path / "clouds.yaml"), "cloud": "demo"}
