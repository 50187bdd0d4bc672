"""Write the pages of speed in ``docs/results`` from what is kept in ``benchmarks/results``.

python benchmarks/speed_page.py            write the pages
python benchmarks/speed_page.py --check    write nothing; fail if a page is stale
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lora_speed_text
from growth_page import growth_page

PROJECT = Path(__file__).resolve().parents[1]
RESULT = PROJECT / "benchmarks" / "results" / "zap.json"
PAGE = PROJECT / "docs" / "results" / "speed.md"
ADVERSARIAL_RESULT = RESULT.with_name("adversarial.json")
ADVERSARIAL_PAGE = PAGE.with_name("speed_adversarial.md")
GROWTH_RESULT = RESULT.with_name("grow.json")
GROWTH_PAGE = PAGE.with_name("speed_grow.md")
PROBE_RESULTS = tuple(
    RESULT.with_name(name) for name in ("kernel.json", "ridge.json", "features.json")
)
PROBE_PAGE = PAGE.with_name("speed_probe.md")
LORA_RESULT = RESULT.with_name("lora.json")
LORA_PAGE = PAGE.with_name("speed_lora.md")

_HEAD = """# Speed of zapping

<!-- written by benchmarks/speed_page.py from benchmarks/results/zap.json; do not edit -->

`make bench PEER=<checkout of uvm-neurobotics-lab/reset-it-and-forget-it>` measures this table, and
`python benchmarks/speed_page.py` writes this page from it. Both codes run the same net (the weights
of one give the same function in the other, which is checked first) on the same images, in processes
of their own that take turns. A figure is the median over repetitions; a ratio is the median of the
ratios of neighbours, and above 1 ours is faster. Time is CPU time, which with one thread on an idle
machine is time on the clock; the ratio by the clock stands beside it. A plus after a commit means
that files differed from it, and two commits that the tree moved while the benchmark ran.
"""

_TAIL = """
The official code is run to its advantage: its images lie decoded in memory, its calls to wandb cost
nothing, its models are not read from files, and the episodes in which it computes extra figures for
its log are left out. Its shipped precision is fp32; it has no other. Our side trains through the
same doors as `kedro run --pipeline zap`, with everything written down that a run writes down.

What makes the difference: GroupNorm with one channel a group in place of InstanceNorm2d (the same
function), a max-pool whose maxima and indices are vectorised (bit for bit the same values and
gradients), fused Adam, images kept as bytes in memory, no forward pass for the log alone, freed
memory kept in the process, bf16 products where the processor has them, and in the continual
evaluation a head of the task's size. At equal work in fp32 the convolutions are the floor.
"""


_ADVERSARIAL_HEAD = """# Speed of adversarial training

<!-- written by benchmarks/speed_page.py from benchmarks/results/adversarial.json; do not edit -->

`make bench PEER_ADVERSARIAL=<checkout of locuslab/robust_overfitting>` measures
this table, and `python benchmarks/speed_page.py` writes this page from it. Both codes train the
same net (the weights of one give the same function in the other, which is checked first) on images
of the same noise, in processes of their own that take turns. A figure is the median over
repetitions; a ratio is the median of the ratios of neighbours, and above 1 ours is faster. Time is
CPU time; the ratio by the clock stands beside it, and with two threads on an idle machine it is the
one to read.
"""

_ADVERSARIAL_TAIL = """
The official code is run to its advantage: its own `main` takes its steps, but its batches lie ready
in memory, without its loader and augmentation. It has fp32 alone. Our side trains through the loop
of every training, with loading and augmentation.

What makes the difference: in the attack, gradients of the pixels alone (the official code also
computes those of all weights and throws them away); no forward pass for restarts where there are
none; no forward pass on clean images for the log alone; channels last; and in the rows in bf16,
products of bf16 numbers, which take about half the time of fp32 with AVX512-BF16 and less with AMX
(not measured here). On a processor without such products `auto` trains in fp32 and says so.
"""


_BOUND = """The convolutions of the step alone, as torch makes them, with all else taken away,
against the whole step of the official code: a ratio above this one cannot be reached with them on
this processor in that precision. Where it lies below a goal, the goal asks for another processor.

"""


def adversarial_page(result: Mapping[str, Any]) -> str:
    """Return the text of the page on adversarial training.

    Args:
        result: The JSON object that ``bench_adversarial.py`` prints last.
    """
    raced = [row for row in result["rows"] if "ratio" in row]
    bounds = [row for row in raced if "bound_" in row["name"]]
    beside = [r for r in raced if r["against"] == "official code" and r not in bounds]
    judged = [row for row in raced if "judging_" in row["name"]]
    costs = [r for r in raced if r["against"] != "official code" and r not in judged]
    same = [row for row in result["rows"] if "margin" in row]
    parts = [_ADVERSARIAL_HEAD, _measured_on(result, "1 or 2 threads")]
    parts += ["\n## Beside the official code\n\n", _table(beside), _short_of(beside)]
    parts += [_memory(row) for row in beside]
    parts.append(_ADVERSARIAL_TAIL)
    parts += ["\n## What no code can exceed here\n\n", _BOUND, _table(bounds)] if bounds else []
    if same:
        parts += ["\n## The same result\n\n", *map(_same, same)]
    if costs:
        parts += ["\n## What forget_relearn costs\n\n", _table(costs), _short_of(costs)]
    if judged:
        parts += ["\n## What folding the attacked net saves its judge\n\n", _table(judged)]
    return "".join(parts)


def _memory(row: Mapping[str, Any]) -> str:
    told = " and ".join(f"{_number(each)} MB" for each in row["megabytes"])
    return f"\nLargest memory in `{row['name']}`: {told} (ours, theirs).\n"


def _same(row: Mapping[str, Any]) -> str:
    verdict = "within" if row["within_margin"] else "NOT within"
    return (
        f"- `{row['name']}`: robust accuracy {row['ours']:.3f} in {row['precision']}, "
        f"{row['peer']:.3f} for {row['against']}: {verdict} the margin of {row['margin']} that was "
        f"said before; {row['conditions']}.\n"
    )


_PROBE_HEAD = """# Speed of dual kernels and ridge paths

<!-- written by benchmarks/speed_page.py from benchmarks/results; do not edit -->

`make bench-probe PEER_KERNEL=<folder>` measures all of it: dual kernels beside neural-tangents in
an environment of its own that is made in that folder, the ridge path beside scikit-learn's
RidgeClassifierCV, and the memory of streamed features against its bound
(`IMAGES=<folder or zip of CIFAR-10>` reads real images);
`python benchmarks/speed_page.py` writes this page. Both sides take turns on the same numbers. A
figure is the median over repetitions, a ratio above 1 means that ours is faster. Time is CPU
time. JAX spreads over all cores whatever number of threads is asked for, so that the ratio by the
clock sets one thread of ours against all cores of the machine; the rows `_one_core` hold both to
one. The one product that every road must make takes nine tenths of `kernel.fc`.
"""


def probe_page(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the text of the page on dual kernels and ridge paths.

    Args:
        results: The JSON objects that ``bench_kernel.py`` and ``bench_ridge.py`` print last.
    """
    parts = [_PROBE_HEAD]
    for result in results:
        raced = [row for row in result["rows"] if row.get("ratio")]
        bounds = [row for row in result["rows"] if "bound" in row]
        parts += [f"\n## {result['name']}\n", _measured_on(result, "1 thread"), "\n"]
        parts += [_table(raced), _short_of(raced)] if raced else []
        parts += [_alone(row) for row in result["rows"] if row.get("against") == "nobody"]
        parts += [_within(row) for row in bounds]
    return "".join(parts)


def _alone(row: Mapping[str, Any]) -> str:
    return f"- `{row['name']}`: {_number(row['ours'])} {row['unit']}; {row['conditions']}.\n"


def _within(row: Mapping[str, Any]) -> str:
    verdict = "within" if row["within_bound"] else "NOT within"
    return (
        f"- `{row['name']}`: {_number(row['ours'])} {row['unit']}, {verdict} the bound of "
        f"{_number(row['bound'])} that is stated before; {row['conditions']}.\n"
    )


def lora_text(result: Mapping[str, Any]) -> str:
    """Return the text of the page on low-rank modules.

    Args:
        result: The JSON object that ``bench_lora.py`` prints last.
    """
    raced = [row for row in result["rows"] if "ratio" in row]
    named = {
        "Beside the official code": ("official code", lora_speed_text.BESIDE),
        "After 20 tasks over after one": ("ours after 1 task", lora_speed_text.FLAT),
        "Beside PEFT, one adapter": ("huggingface PEFT", ""),
    }
    parts = [lora_speed_text.HEAD, _measured_on(result, f"{result['threads']} thread(s)")]
    for heading, (against, said) in named.items():
        own = [row for row in raced if row["against"] == against]
        if own:
            parts += [f"\n## {heading}\n\n", _table(own), _short_of(own), said]
    told = [lora_speed_text.plain_line(row) for row in result["rows"] if "margin" in row]
    return "".join([*parts, "\n## Bytes and equal answers\n\n", *told])


def speed_page(result: Mapping[str, Any]) -> str:
    """Return the text of the page.

    Args:
        result: The JSON object that ``bench_zap.py`` prints last.
    """
    beside = [r for r in result["rows"] if r["against"] == "official code"]
    within = [r for r in result["rows"] if r["against"] != "official code"]
    parts = [
        _HEAD,
        _measured_on(result, f"{result['threads']} thread(s)"),
        "\n## Beside the official code\n\n",
        _table(beside),
        _short_of(beside),
        _TAIL,
    ]
    if within:
        parts += ["\n## Ours with and without one of its means\n\n", _table(within)]
    return "".join(parts)


def _measured_on(result: Mapping[str, Any], threads: str) -> str:
    return (
        f"\nMeasured on {result['machine']}, torch {result['torch']}, "
        f"{threads}, {result['repetitions']} repetitions, {result['date']}, "
        f"commit {result['commit']}. Load of the machine at the start: "
        f"{_number(result['load'])} processes.\n"
    )


def _short_of(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return which goals were missed, or that none was."""
    judged = [r for r in rows if r["goal"] and r["ratio"]]
    if not judged:
        return ""
    missed = [f"`{r['name']}` ({r['ratio']:.2f} of {_number(r['goal'])})" for r in judged]
    missed = [text for text, r in zip(missed, judged, strict=True) if r["ratio"] < r["goal"]]
    return f"\nBelow its goal: {', '.join(missed)}.\n" if missed else "\nEvery goal is met.\n"


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    head = (
        "| row | ours | other | ratio | range | by the clock | goal | unit | precision "
        "| conditions |\n"
    )
    lines = [head, "|---|---|---|---|---|---|---|---|---|---|\n"]
    for row in rows:
        low, high = row["ratio_range"] or (None, None)
        between = f"{low:.2f} to {high:.2f}" if low is not None else "not measured"
        cells = [
            f"`{row['name']}`",
            _number(row["ours"]),
            _number(row["peer"]),
            f"**{row['ratio']:.2f}**" if row["ratio"] else "not measured",
            between,
            f"{row['ratio_by_the_clock']:.2f}" if row["ratio_by_the_clock"] else "not measured",
            _number(row["goal"]) if row["goal"] else "",
            row["unit"],
            row["precision"],
            row["conditions"],
        ]
        lines.append("| " + " | ".join(cells) + " |\n")
    return "".join(lines)


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if stale")
    given = parser.parse_args(arguments)
    stale = [page for page in _PAGES if not page(check=given.check)]
    return 1 if stale else 0


def _zap_page(*, check: bool) -> bool:
    return _kept(PAGE, speed_page(json.loads(RESULT.read_text(encoding="utf-8"))), check=check)


def _adversarial_page(*, check: bool) -> bool:
    if not ADVERSARIAL_RESULT.exists():
        return True  # not measured yet
    text = adversarial_page(json.loads(ADVERSARIAL_RESULT.read_text(encoding="utf-8")))
    return _kept(ADVERSARIAL_PAGE, text, check=check)


def _growth_page(*, check: bool) -> bool:
    if not GROWTH_RESULT.exists():
        return True  # not measured yet
    text = growth_page(json.loads(GROWTH_RESULT.read_text(encoding="utf-8")))
    return _kept(GROWTH_PAGE, text, check=check)


def _probe_page(*, check: bool) -> bool:
    found = [json.loads(p.read_text(encoding="utf-8")) for p in PROBE_RESULTS if p.exists()]
    return _kept(PROBE_PAGE, probe_page(found), check=check) if found else True


def _lora_page(*, check: bool) -> bool:
    if not LORA_RESULT.exists():
        return True  # not measured yet
    text = lora_text(json.loads(LORA_RESULT.read_text(encoding="utf-8")))
    return _kept(LORA_PAGE, text, check=check)


_PAGES = (_zap_page, _adversarial_page, _growth_page, _probe_page, _lora_page)


def _kept(page: Path, text: str, *, check: bool) -> bool:
    """Write the page, or return whether it is as it would be written."""
    if not check:
        page.write_text(text, encoding="utf-8")
        return True
    fresh = page.exists() and page.read_text(encoding="utf-8") == text
    if not fresh:
        print(
            f"docs/results/{page.name} is stale: run python benchmarks/speed_page.py",
            file=sys.stderr,
        )
    return fresh


if __name__ == "__main__":
    sys.exit(main())
