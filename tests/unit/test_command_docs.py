"""What docs/ says of the commands and of the API is what the program offers."""

from __future__ import annotations

import re
from typing import Any

import typer
from fastapi.routing import APIRoute

from levier.api import cloud, configurations, images, nodes, operations, ramdisks, releases, sites, stored_secrets
from levier.cli import app
from levier.cli.docs import BEGIN, with_reference
from levier.domain import errors
from levier.domain.retry import TREATMENTS
from tests.unit.site_samples import ROOT

COMMANDS = (ROOT / "docs" / "commands.md").read_text()
API = (ROOT / "docs" / "api.md").read_text()


def _leaves(command: Any, name: str) -> list[str]:
    """The full name of every command that does something, found without the generator under test."""
    children = getattr(command, "commands", None)
    if not children:
        return [name]
    return [leaf for child in children for leaf in _leaves(children[child], f"{name} {child}")]


def test_the_reference_of_commands_is_made_from_the_commands() -> None:
    assert with_reference(COMMANDS) == COMMANDS, "make it anew: python -m levier.cli.docs"


def test_every_command_is_in_the_reference() -> None:
    reference = COMMANDS[COMMANDS.index(BEGIN) :]
    leaves = _leaves(typer.main.get_command(app), "levier")
    assert len(leaves) > 25
    assert [leaf for leaf in leaves if not re.search(rf"^#+ `{leaf}`$", reference, re.MULTILINE)] == []


def _routes() -> set[str]:
    guarded = [
        route
        for module in (sites, configurations, cloud, nodes, stored_secrets, images, ramdisks, releases, operations)
        for route in module.router.routes
        if isinstance(route, APIRoute)
    ]
    assert len(guarded) > 20
    return {f"{method} /v1{route.path}" for route in guarded for method in route.methods} | {"GET /v1/health"}


def test_every_route_is_documented_and_nothing_else() -> None:
    assert set(re.findall(r"^### `([A-Z]+ /[^`]*)`$", API, re.MULTILINE)) == _routes()


def test_every_route_has_an_example_that_calls_it() -> None:
    for heading, section in re.findall(r"^### `[A-Z]+ /v1([^`]*)`$(.*?)(?=^##|\Z)", API, re.MULTILINE | re.DOTALL):
        path = re.sub(r"\\{\w+\\}", r"[\\w.-]+", re.escape(heading))
        assert re.search(rf"curl .*\$API{path}([\s\"?]|$)", section), f"{heading} has no example"


def test_the_table_of_statuses_is_the_one_table_of_errors() -> None:
    names = {kind.__name__ for kind, _ in TREATMENTS}
    for kind, treatment in TREATMENTS:
        row = re.search(rf"^\| {treatment.http_status} \| (.*)\|$", API, re.MULTILINE)
        assert row, f"api.md has no row for {treatment.http_status}"
        assert set(re.findall(r"\w+", row[1])) & names == {
            k.__name__ for k, t in TREATMENTS if t.http_status == treatment.http_status
        }
        assert issubclass(kind, errors.LevierError)
