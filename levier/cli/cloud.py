"""`levier cloud …`: the installed cloud."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from levier.cli.client import connect
from levier.cli.output import say, show_json
from levier.domain.errors import InvalidRequest

app = typer.Typer(help="The installed cloud.", no_args_is_help=True)
FILE = "clouds.yaml"
PLAIN_HTTP = (
    "the public endpoints are plain HTTP: passwords and tokens can be read on the way. "
    "`also: [haproxy]` at the role controller gives them TLS"
)
"""What is said of a cloud without haproxy."""
_NEVER_WRAPPED = 4096


@app.callback()
def cloud() -> None:
    """Keeps `access` a command of its own while it is the only one."""


@app.command()
def access(
    directory: Annotated[Path, typer.Option(help="Where clouds.yaml goes; `~/.config/openstack` is looked at too.")] = (
        Path()
    ),
    name: Annotated[str | None, typer.Option(help="The cloud's name in it; the site's if none is given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the operators' login to the cloud into clouds.yaml; other clouds in it stay."""
    present = clouds_in(directory / FILE)
    granted = connect().get("/cloud/access")
    cloud_name = name or str(granted["name"])
    entry = dict(granted["entry"])
    if granted["ca"]:
        ca = (directory / f"{cloud_name}-ca.pem").absolute()
        _write(ca, granted["ca"])
        entry["cacert"] = str(ca)
    present["clouds"][cloud_name] = entry
    write_clouds(directory / FILE, present)
    if as_json:
        show_json({"file": str(directory / FILE), "cloud": cloud_name})
        return
    say(f"{directory / FILE}: cloud {cloud_name}, {entry['auth']['auth_url']}")
    if str(entry["auth"]["auth_url"]).startswith("http://"):
        say(PLAIN_HTTP)
    say(f"use it: openstack --os-cloud {cloud_name} server list --all-projects")


def clouds_in(file: Path) -> dict[str, Any]:
    """What is in the file; without one, no clouds. Raises InvalidRequest when it is none of its kind."""
    if not file.exists():
        return {"clouds": {}}
    try:
        content = YAML().load(file.read_text(encoding="utf-8"))
    except YAMLError as error:
        raise InvalidRequest(f"{file} is no YAML: {error}", hint="mend or move it, or use --directory") from error
    if not isinstance(content, dict) or not isinstance(content.get("clouds"), dict):
        raise InvalidRequest(f"{file} lists no clouds", hint="mend or move it, or use --directory")
    return content


def write_clouds(file: Path, content: dict[str, Any]) -> None:
    """The file says this, readable by its owner only; never half of it. Comments that were read stay."""
    yaml, text = YAML(), io.StringIO()
    yaml.width = _NEVER_WRAPPED
    yaml.dump(content, text)
    _write(file, text.getvalue())


def _write(file: Path, text: str) -> None:
    """The file has this text, readable by its owner only; never half of it."""
    part = file.with_name(f".{file.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    part.replace(file)
