"""Write the generated parts of the documentation, and check its links.

A generated part stands between ``<!-- generated: KIND NAME -->`` and
``<!-- end of generated part -->``. The kinds are ``claims zap`` (claim cards of a method),
``settings zap`` (every parameter under a root key, from its class and ``conf/base``),
``activations duals`` (computed from the package) and ``methods`` (the table of the README).

    python docs/build.py            write
    python docs/build.py --check    write nothing; fail if a part is stale or a link leads nowhere
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from activation_table import activations_table
from claim_cards import ClaimError, claims_table, methods_table, read_claims
from links import broken_links
from settings_tables import settings_table

PROJECT = Path(__file__).resolve().parents[1]
PART = re.compile(
    r"(?P<head><!-- generated: (?P<kind>[a-z]+)(?: (?P<name>[a-z_]+))? -->\n)"
    r"(?P<body>.*?)(?P<end><!-- end of generated part -->)",
    re.DOTALL,
)


def pages(project: Path) -> Iterator[Path]:
    """Yield every page of the documentation, README first."""
    yield from sorted(project.glob("*.md"))
    yield from sorted((project / "docs").rglob("*.md"))


def generated(project: Path, kind: str, name: str) -> str:
    """Return the text of one generated part.

    Args:
        project: Root of the project.
        kind: ``claims``, ``settings``, ``activations`` or ``methods``.
        name: Method, root key or table; empty for ``methods``.

    Raises:
        ClaimError: The kind is unknown, or a claim card is not as it must be.
    """
    folder = project / "docs" / "claims"
    if kind == "claims":
        return claims_table(read_claims(folder / f"{name}.yml"))
    if kind == "settings":
        return settings_table(project / "conf" / "base", name)
    if kind == "activations":
        return activations_table(name)
    if kind == "methods":
        return methods_table(folder)
    known = "claims, settings, activations, methods"
    raise ClaimError(f"{kind!r} is no kind of generated part; there are {known}")


def rebuilt(project: Path, text: str) -> str:
    """Return ``text`` with all its generated parts made anew."""
    return PART.sub(
        lambda part: (
            f"{part['head']}\n{generated(project, part['kind'], part['name'] or '')}\n{part['end']}"
        ),
        text,
    )


def stale_pages(project: Path) -> dict[Path, str]:
    """Return the pages whose generated parts are not up to date, with the text they should have."""
    found = {}
    for page in pages(project):
        text = page.read_text(encoding="utf-8")
        fresh = rebuilt(project, text)
        if fresh != text:
            found[page] = fresh
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check; return the exit code.

    Args:
        arguments: Command line without the program; None reads ``sys.argv``.
    """
    parser = argparse.ArgumentParser(prog="docs/build.py", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, fail on what is stale")
    check = parser.parse_args(arguments).check
    try:
        stale = stale_pages(PROJECT)
    except ClaimError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    faults = broken_links(PROJECT, list(pages(PROJECT)))
    for page, text in stale.items():
        where = page.relative_to(PROJECT)
        if check:
            faults.append(f"{where}: a generated part is not up to date; run make docs")
        else:
            page.write_text(text, encoding="utf-8")
            print(f"{where}: written")
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
