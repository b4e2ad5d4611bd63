"""Links between documents lead somewhere, and no document or file names the machine it was written on."""

from __future__ import annotations

import re
import subprocess
import unicodedata
from functools import cache
from pathlib import Path

import pytest

from tests.unit.site_samples import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]\n]*\]\(<?([^)>\s]+)>?\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.MULTILINE)
_RECORD = re.compile(r"docs/decisions/(\d{4})")


def _links(page: Path) -> list[str]:
    text = _CODE.sub("", _FENCED.sub("", page.read_text()))
    return [link for link in _LINK.findall(text) if not re.match(r"[a-z]+:", link)]


@cache
def _anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the page's headings."""
    kept = (
        "".join(c for c in heading.lower() if c in "-_ " or unicodedata.category(c)[0] in "LN")
        for heading in _HEADING.findall(_FENCED.sub("", page.read_text()))
    )
    return {each.replace(" ", "-") for each in kept}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_resolve(page: Path) -> None:
    broken = []
    for link in _links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert broken == []


def test_there_are_pages_with_links() -> None:
    assert sum(len(_links(page)) for page in PAGES) > 30


def test_every_decision_record_is_in_the_index() -> None:
    directory = ROOT / "docs" / "decisions"
    index = set(_links(directory / "README.md"))
    records = {page.name for page in directory.glob("[0-9]*.md")}
    assert records <= index


def _files() -> list[Path]:
    """Everything that is, or is about to be, committed; all files where this is no checkout."""
    argv = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    return [p for p in ROOT.rglob("*") if p.is_file() and ".venv" not in p.parts]


def _texts() -> dict[Path, str]:
    return {p: p.read_text(errors="replace") for p in _files() if p.suffix not in {".png", ".bin", ".zst", ".pyc"}}


def test_no_file_names_a_path_of_the_machine_it_was_written_on_or_where_packages_come_from() -> None:
    # Put together from parts, so that this file does not find itself.
    forbidden = re.compile(
        "|".join([r"(?<![\w.])/wor" + r"k/\w", "files.python" + "hosted.org", r"https?://py" + r"pi\.org"])
    )
    found = [f"{p.relative_to(ROOT)}: {m[0]}" for p, text in _texts().items() for m in forbidden.finditer(text)]
    assert found == []


def test_every_decision_that_a_file_refers_to_exists() -> None:
    records = {page.name[:4] for page in (ROOT / "docs" / "decisions").glob("[0-9]*.md")}
    missing = {
        f"{path.relative_to(ROOT)}: {number}"
        for path, text in _texts().items()
        for number in _RECORD.findall(text)
        if number not in records
    }
    assert missing == set()
