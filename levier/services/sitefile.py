"""Site files: read with every error found at once, each with its line and with what would be right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from levier.domain.component_placement import missing_needs
from levier.domain.component_settings import settings_findings
from levier.domain.errors import InvalidRequest
from levier.domain.problems import Finding, Problem, render_path, render_problems
from levier.domain.site import Site
from levier.domain.site_canonical import canonical, digest
from levier.domain.site_validation import parse_site
from levier.services.components.installed import installed_components, known_options
from levier.services.components.option_sections import naming_options
from levier.services.yaml_source import Source, read_yaml

__all__ = ["SiteDocument", "SiteFileInvalid", "canonical", "digest", "load_site", "render_problems", "unmet_needs"]


@dataclass(frozen=True, slots=True)
class SiteDocument:
    """A valid site file."""

    filename: str
    site: Site
    canonical: str
    """The site's one text form (`levier.domain.site_canonical`)."""
    digest: str
    """SHA-256 of `canonical`."""


class SiteFileInvalid(InvalidRequest):
    """The file is no valid site; nothing was stored. `problems` are ordered by line and column."""

    def __init__(self, filename: str, problems: tuple[Problem, ...]) -> None:
        count = f"{len(problems)} error{'s' if len(problems) != 1 else ''}"
        super().__init__(
            f"{count} in {filename}, nothing was stored:\n{render_problems(problems, filename)}",
            hint=f"correct the file, then check it: levier site validate {filename}",
        )
        self.filename = filename
        self.problems = problems


def load_site(text: str, filename: str) -> SiteDocument:
    """The site in the YAML 1.2 `text`; `filename` is used in messages only. Safe to repeat.

    Raises SiteFileInvalid with every error of the file: those of the YAML, of single values, between entries, and of
    settings that no component has.
    """
    source = read_yaml(text)
    if source.document is None and source.problems:
        raise SiteFileInvalid(filename, source.problems)
    site, findings = parse_site(source.document)
    findings = (*findings, *_component_findings(source.document))
    problems = {*source.problems, *(_located(each, source) for each in findings)}
    if site is None or problems:
        raise SiteFileInvalid(filename, tuple(sorted(problems, key=lambda each: (each.line, each.column, each.path))))
    return SiteDocument(filename=filename, site=site, canonical=canonical(site), digest=digest(site))


def unmet_needs(site: Site) -> tuple[str, ...]:
    """One sentence for each thing that an installation of the valid `site` would lack; empty without any.

    A site of machines that run no OpenStack, or not yet, may lack all of it. Safe to repeat.
    """
    return missing_needs(site, installed_components())


def _component_findings(document: object) -> tuple[Finding, ...]:
    """What the file says of components that cannot be. Reading them takes a moment: only where it says anything."""
    if not isinstance(document, Mapping) or not _speaks_of_components(document):
        return ()
    return settings_findings(document, installed_components(), known_options(), naming_options())


def _speaks_of_components(document: Mapping[str, object]) -> bool:
    levels = [document]
    for section in ("zones", "nodes"):
        entries = document.get(section)
        levels += [each for each in entries if isinstance(each, Mapping)] if isinstance(entries, list) else []
    return "roles" in document or any("settings" in each for each in levels)


def _located(finding: Finding, source: Source) -> Problem:
    position = source.position(finding.path)
    line, column = position.key if finding.at_key else position.value
    related = f" (line {source.position(finding.related).value[0]})" if finding.related is not None else ""
    expected = finding.expected
    if finding.wants_text and position.source:
        expected = f'put it in quotes: "{position.source}"'
    message = finding.message + related
    return Problem(line=line, column=column, path=render_path(finding.path), message=message, expected=expected)
