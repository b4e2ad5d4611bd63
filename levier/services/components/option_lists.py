"""The options that the programs of a release know, asked of the release's own oslo-config-generator.

`python -m levier.services.components.option_lists BUNDLE SERIES` writes the list for a series beside the components;
BUNDLE is an unpacked bundle, or any virtual environment with the release in it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from levier.domain.errors import InvalidRequest
from levier.services.components.option_sections import (
    OPTIONS,
    foreign_sections,
    login_sections,
    namespaces,
    password_login,
)

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
    return _names(program, json.loads(done.stdout))


def validator_command(bundle: Path, program: str, file: Path) -> list[str]:
    """The command that has the release's oslo-config-validator check `file` against the options of `program`. Pure.

    It knows what the generator lists: the content is to be what `for_validator` makes of a file's.
    """
    return _command(bundle, "validator", ["--input-file", str(file), *_wanted(program)])


def for_validator(program: str, content: str) -> str:
    """A file's content in the words that the validator knows, so that it need pass over no section. Pure.

    A section that no generator lists stands under the name of the section whose options it has; the options of the
    login by password, which services load at run time, are left out. Raises InvalidRequest for a section whose options
    are no other's in the program's own list: nobody could judge it.
    """
    lines, section = [], ""
    for line in content.splitlines():
        if line.startswith("["):
            section = line.strip().strip("[]")
            lines.append(f"[{_listed_section(program, section)}]")
        elif not (section in login_sections(program) and line.split("=", 1)[0].strip() in password_login()):
            lines.append(line)
    return "\n".join(lines) + "\n"


def _listed_section(program: str, section: str) -> str:
    alike = foreign_sections(program).get(section, (section,))
    if not alike or "/" in alike[0]:
        raise InvalidRequest(
            f"the validator knows no section like [{section}] of {program}",
            hint="name a section of the same program for it in namespaces.yaml, or leave it out of the template",
        )
    return alike[0]


def _wanted(program: str) -> list[str]:
    return [word for each in namespaces()[program] for word in ("--namespace", each)]


def _command(bundle: Path, module: str, argv: list[str]) -> list[str]:
    script = _RUN.format(module=module, absent=_ABSENT, argv=[module, *argv])
    return [str(bundle / "bin" / "python"), "-c", script]


def _names(program: str, raw: Mapping[str, Any]) -> dict[str, list[str]]:
    found: dict[str, set[str]] = {}
    for section, content in raw["options"].items():
        for option in content["opts"]:
            found.setdefault(section, set()).update({option["name"], option["dest"]})
    for section, old in raw.get("deprecated_options", {}).items():
        found.setdefault(section, set()).update(each["name"] for each in old)
    for section in login_sections(program) & found.keys():
        found[section].update(password_login())
    return {section: sorted(names) for section, names in sorted(found.items())}


def main(bundle: Path, series: str) -> None:
    """The list of the series is on disk. Safe to repeat."""
    lists = {program: generated(bundle, program) for program in sorted(namespaces())}
    text = json.dumps(lists, indent=0, separators=(",", ":"), sort_keys=True)
    (OPTIONS / f"{series}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
