"""Links inside the documentation: every file and every heading they name must exist."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

LINK = re.compile(r"\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`[^`]*`")


def broken_links(project: Path, pages: Sequence[Path]) -> list[str]:
    """Return one line for each link that leads nowhere; addresses on the network are not tried.

    Args:
        project: Root of the project; a link that leaves it is a fault.
        pages: Markdown files to read.
    """
    return [
        f"{page.relative_to(project)}: link to {target}: {fault}"
        for page in pages
        for target in _targets(page)
        if (fault := _fault(project, page, target))
    ]


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    lines = FENCE.sub("", page.read_text(encoding="utf-8")).splitlines()
    return {_anchor(line.lstrip("#")) for line in lines if line.startswith("#")}


def _anchor(title: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", title.strip().lower())
    return kept.replace(" ", "-")


def _targets(page: Path) -> list[str]:
    text = CODE.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))
    found = [match["target"] for match in LINK.finditer(text)]
    return [t for t in found if not re.match(r"[a-z]+:", t)]


def _fault(project: Path, page: Path, target: str) -> str:
    name, _, anchor = target.partition("#")
    path = (page.parent / name).resolve() if name else page
    if not path.is_relative_to(project):
        return "it leaves the project"
    if not path.exists():
        return "no such file"
    if anchor and path.suffix == ".md" and anchor not in headings(path):
        return "no such heading"
    return ""
