"""The options that the programs of a release know, asked of the release's own oslo-config-generator.

`python -m levier.services.components.option_lists BUNDLE SERIES` writes the list for a series beside the components;
BUNDLE is an unpacked bundle, or any virtual environment with the release in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from levier.domain.errors import InvalidRequest
from levier.services.components.installed import OPTIONS

NAMESPACES = OPTIONS / "namespaces.yaml"
AUTHTOKEN = "keystone_authtoken"
"""The section whose options depend on the way of logging in; the validator passes over it for that reason."""
_TIMEOUT_S = 120
_RUN = """
import sys
from unittest.mock import MagicMock
from oslo_config import {module}
for name in {absent!r}:
    sys.modules[name] = MagicMock()
sys.argv = {argv!r}
sys.exit({module}.main())
"""
_ABSENT = ("googleapiclient", "googleapiclient.discovery", "googleapiclient.errors", "googleapiclient.http", "httplib2")
"""What drivers that no release bundle serves import at the top, though their options are listed with all others."""


def namespaces() -> dict[str, list[str]]:
    """The namespaces of options by program."""
    found: dict[str, list[str]] = _declared()["namespaces"]
    return found


def foreign_sections(program: str) -> frozenset[str]:
    """Sections of a program's files whose options no generator lists."""
    return frozenset(_declared()["foreign_sections"].get(program, ()))


@cache
def _declared() -> dict[str, Any]:
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(NAMESPACES.read_text(encoding="utf-8"))
    return content


def generated(bundle: Path, program: str) -> dict[str, list[str]]:
    """The options of one program: section → names, old names included, sorted. Takes seconds.

    Raises InvalidRequest when the generator fails.
    """
    argv = _command(bundle, "generator", ["--format", "json", *_wanted(program)])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if done.returncode:
        raise InvalidRequest(
            f"oslo-config-generator failed for {program}: {done.stderr.strip()[-400:]}",
            hint=f"is {bundle} an unpacked bundle of the release?",
        )
    return _names(json.loads(done.stdout))


def validator_command(bundle: Path, program: str, file: Path) -> list[str]:
    """The command that has the release's oslo-config-validator check `file` against the options of `program`. Pure."""
    foreign = [word for each in sorted(foreign_sections(program)) for word in ("--exclude-group", each)]
    return _command(bundle, "validator", ["--input-file", str(file), *_wanted(program), *foreign])


def _wanted(program: str) -> list[str]:
    return [word for each in namespaces()[program] for word in ("--namespace", each)]


def _command(bundle: Path, module: str, argv: list[str]) -> list[str]:
    script = _RUN.format(module=module, absent=_ABSENT, argv=[module, *argv])
    return [str(bundle / "bin" / "python"), "-c", script]


def _names(raw: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for section, content in raw["options"].items():
        for option in content["opts"]:
            found.setdefault(section, set()).update({option["name"], option["dest"]})
    for section, old in raw.get("deprecated_options", {}).items():
        found.setdefault(section, set()).update(each["name"] for each in old)
    if AUTHTOKEN in found:
        found[AUTHTOKEN].update(_declared()["password_login"])
    return {section: sorted(names) for section, names in sorted(found.items())}


def main(bundle: Path, series: str) -> None:
    """The list of the series is on disk. Safe to repeat."""
    lists = {program: generated(bundle, program) for program in sorted(namespaces())}
    text = json.dumps(lists, indent=0, separators=(",", ":"), sort_keys=True)
    (OPTIONS / f"{series}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
