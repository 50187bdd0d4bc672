"""The documentation tells the truth: cards, generated parts, links, commands, examples."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import build
import pytest
import yaml
from claim_cards import METHODS, ClaimError, claims_table, methods_table, read_claims
from house import PROJECT
from links import broken_links, headings
from settings_tables import attributes, settings_table

from relearn.parameters import Parameters
from relearn.pipeline_registry import register_pipelines
from relearn.reports.config import METHODS as REPORTED
from relearn.training.config import TrainConfig

PAGES = list(build.pages(PROJECT))
every_page = pytest.mark.parametrize(
    "page", PAGES, ids=lambda page: page.relative_to(PROJECT).as_posix()
)
OURS = {
    "value": 3.1,
    "low": 0.4,
    "high": 5.8,
    "seeds": 5,
    "profile": "omniglot",
    "command": "kedro run --env omniglot",
    "commit": "0123456789ab",
    "date": "2026-11-21",
    "machine": "2 cores",
    "rule": "6f1c0d2e9a7b",
}
PAPER = {"value": 11.8, "unit": "points", "source": "authors' notebook"}
CARD = {"claim": "It helps on these data.", "paper": None, "ours": OURS, "status": "reproduced"}


def written(folder: Path, card: Mapping[str, Any]) -> Path:
    path = folder / "zap.yml"
    path.write_text(yaml.safe_dump([dict(card)]), encoding="utf-8")
    return path


def test_generated_parts_are_up_to_date_and_all_links_lead_somewhere() -> None:
    assert build.main(["--check"]) == 0


def test_a_changed_card_makes_its_page_stale(tmp_path: Path) -> None:
    (tmp_path / "docs" / "claims").mkdir(parents=True)
    page = tmp_path / "docs" / "zap.md"
    page.write_text("<!-- generated: claims zap -->\n<!-- end of generated part -->\n", "utf-8")
    written(tmp_path / "docs" / "claims", CARD)

    first = build.stale_pages(tmp_path)[page]
    page.write_text(first, encoding="utf-8")

    assert "+3.1 [+0.4, +5.8], 5 pairs, `omniglot`" in first
    assert build.stale_pages(tmp_path) == {}
    written(tmp_path / "docs" / "claims", {**CARD, "status": "weaker"})
    assert "weaker than claimed" in build.stale_pages(tmp_path)[page]
    parity = {**CARD, "status": "weaker", "paper": PAPER, "ours": {**OURS, "profile": "parity"}}
    written(tmp_path / "docs" / "claims", parity)
    assert "weaker than published" in build.stale_pages(tmp_path)[page]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"claims": "x"}, "Extra inputs"),
        ({"claim": "It helps. It helps much."}, "one sentence"),
        ({"claim": "It helps on these data"}, "one sentence"),
        ({"status": "not measured"}, "exactly where ours is null"),
        ({"ours": None}, "exactly where ours is null"),
        ({"status": "perfect"}, "reproduced"),
        ({"paper": PAPER}, "only a parity"),
        ({"ours": {**OURS, "low": 4.0}}, "between low and high"),
        ({"ours": {**OURS, "seeds": "5"}}, "valid integer"),
        ({"ours": {**OURS, "date": "yesterday"}}, "year-month-day"),
        ({"ours": {k: v for k, v in OURS.items() if k != "command"}}, "command"),
    ],
)
def test_a_card_that_is_not_honest_is_refused(
    tmp_path: Path, change: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(ClaimError, match=said):
        read_claims(written(tmp_path, {**CARD, **change}))


def test_only_a_parity_profile_stands_beside_a_published_figure(tmp_path: Path) -> None:
    card = {**CARD, "paper": PAPER, "ours": {**OURS, "profile": "paper"}}

    table = claims_table(read_claims(written(tmp_path, card)))

    assert "+11.8 points (authors' notebook)" in table
    assert "kedro run --env omniglot" in table


def test_what_else_must_be_known_to_get_a_figure_again_stands_behind_its_command(
    tmp_path: Path,
) -> None:
    note = "the environment was called glyphs then"

    told = claims_table(read_claims(written(tmp_path, {**CARD, "ours": {**OURS, "note": note}})))

    assert told.splitlines()[-1].endswith(f"; {note}")


def test_the_readme_table_has_all_five_methods_in_the_order_of_the_report(tmp_path: Path) -> None:
    written(tmp_path, CARD)

    table = methods_table(tmp_path)

    assert tuple(METHODS) == REPORTED
    assert [row.split("`")[1] for row in table.splitlines() if "`" in row] == list(METHODS)
    assert table.count("not built yet") == 4
    assert "1 of 1 claims measured" in table


def test_links_to_missing_files_headings_and_other_projects_are_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One Title: here\n[a](gone.md) [b](#no) [c](#one-title-here) [d](../x) "
        "[e](https://example.org) `[f](gone2.md)`\n```\n[g](gone3.md)\n```\n",
        encoding="utf-8",
    )

    faults = broken_links(tmp_path, [page])

    assert headings(page) == {"one-title-here"}
    assert [fault.split(": ", 1)[1] for fault in faults] == [
        "link to gone.md: no such file",
        "link to #no: no such heading",
        "link to ../x: it leaves the project",
    ]


def leaves(tree: Mapping[str, Any], root: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{root}.{key}"
        found |= leaves(value, name) if isinstance(value, Mapping) else {name: value}
    return found


def test_the_zap_table_holds_every_parameter_that_base_sets() -> None:
    base = PROJECT / "conf" / "base"
    tree = yaml.safe_load((base / "parameters_zap.yml").read_text(encoding="utf-8"))

    rows = re.findall(r"^\| `(.+?)` \| `(.*?)` \|", settings_table(base, "zap"), re.MULTILINE)

    shown = {name: str(v).lower() if isinstance(v, bool) else str(v) for name, v in rows}
    expected = {
        name: str(v).lower() if isinstance(v, bool) else (str(v) or '""')
        for name, v in leaves(tree["zap"], "zap").items()
    }
    assert shown == expected


def test_meanings_come_from_the_docstring_with_its_lines_joined() -> None:
    told = attributes(TrainConfig)

    assert set(told) == set(TrainConfig.model_fields)
    assert told["schedule"].startswith("`constant`; `cosine` falls to 0 at the end; `step` divides")


@every_page
def test_every_command_on_a_page_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    environments = {path.name for path in (PROJECT / "conf").iterdir() if path.is_dir()}

    lines = re.findall(r"`make ((?:[a-z-]+ ?)+)`|^make ([a-z-]+)", text, re.MULTILINE)
    made = {word for line in lines for word in " ".join(line).split()}
    pipelines = set(re.findall(r"--pipeline[= ]([a-z_]+)", text)) - {"name"}

    assert made <= targets
    assert pipelines <= set(register_pipelines())
    assert set(re.findall(r"--env[= ]([a-z0-9_]+)", text)) <= environments


@every_page
def test_every_parameter_on_a_command_line_exists(page: Path) -> None:
    given = re.findall(r"--params \"?([a-z_.]+=[^\s`\"]+)", page.read_text(encoding="utf-8"))
    names = {part.partition("=")[0] for text in given for part in text.split(",") if "=" in part}

    for name in names - {"name", "other"}:
        assert _is_parameter(name), name


def _is_parameter(name: str) -> bool:
    kind: Any = Parameters
    for part in name.split("."):
        fields = getattr(kind, "model_fields", {})
        if part not in fields:
            return False
        kind = fields[part].annotation
    return True


def examples(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@every_page
def test_every_name_that_an_example_imports_exists(page: Path) -> None:
    for code in examples(page):
        tree = ast.parse(code)
        tree.body = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        exec(compile(tree, str(page), "exec"), {})  # noqa: S102 - our own examples


@pytest.mark.parametrize("method", sorted(p.stem for p in (PROJECT / "docs/methods").glob("*.md")))
def test_the_example_on_a_method_page_runs(method: str) -> None:
    found = examples(PROJECT / "docs" / "methods" / f"{method}.md")

    assert found
    for code in found:
        exec(compile(code, method, "exec"), {})  # noqa: S102 - our own examples


@pytest.mark.parametrize("number", range(3))
def test_the_examples_of_the_guide_to_last_layers_run(number: int) -> None:
    code = examples(PROJECT / "docs" / "how-to" / "fit-a-last-layer.md")[number]

    exec(compile(code, f"example {number}", "exec"), {})  # noqa: S102 - our own examples


def test_the_readme_shows_both_commands_first() -> None:
    readme = (PROJECT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^make (\w+)", readme, re.MULTILINE)

    assert commands[:2] == ["run", "test"]


def test_make_alone_lists_every_door() -> None:
    done = subprocess.run(["make", "help"], cwd=PROJECT, capture_output=True, text=True, check=True)

    for target in ("run", "test", "lint", "types", "docs", "bench", "viz", "ui", "serve"):
        assert re.search(rf"^  make {target}\s+\S", done.stdout, re.MULTILINE)
