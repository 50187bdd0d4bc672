"""Grow architectures of torchvision and timm, and tell on a page what happened.

``make test-compat`` measures every architecture and fails where the page says something else;
``make test-compat ARGS=--rewrite-pages`` writes ``docs/results/grow_compatibility.json`` and the
page beside it anew, with rows that are exact alone. ``python docs/compatibility_page.py name ...``
measures the named ones by hand.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import torchvision
from result_page import markdown_table
from torch import Tensor, nn

from relearn.methods.grow import GrowthError, GrowthSpec, apply, plan, verify

TABLE = Path(__file__).parent / "results" / "grow_compatibility.json"
PAGE = TABLE.with_suffix(".md")
SEED = 0
LIMIT, ROUNDING = 1e-12, 4
FACTORS = (1.5, 2.0)
_OUT = "output at"


@dataclass(frozen=True)
class Architecture:
    """A network to be grown.

    Attributes:
        library: ``torchvision`` or ``timm``.
        name: As its library calls it.
        size: Height and width of its images, in pixels.
    """

    library: str
    name: str
    size: int

    def build(self) -> nn.Module:
        """Return it with random weights and statistics that no forgotten copy survives."""
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.manual_seed(SEED)
            if self.library == "torchvision":
                more = {"init_weights": True} if self.name in _TOLD else {}
                net: nn.Module = getattr(torchvision.models, self.name)(weights=None, **more)
            else:
                net = timm.create_model(self.name)
            unsettle(net)
        return net.eval()


_TOLD = {"googlenet", "inception_v3"}
"""Architectures of torchvision that warn unless they are told how to begin."""


def _listed(library: str, text: str) -> list[Architecture]:
    pairs = (entry.split(":") for entry in text.split())
    return [Architecture(library, name, int(size)) for name, size in pairs]


ARCHITECTURES = [
    *_listed(
        "torchvision",
        "resnet18:64 resnet50:64 resnext50_32x4d:64 vgg11_bn:64 densenet121:64 mobilenet_v2:64 "
        "mobilenet_v3_large:64 efficientnet_b0:64 squeezenet1_1:64 googlenet:64 "
        "shufflenet_v2_x1_0:64 regnet_y_400mf:64 convnext_tiny:64 vit_b_16:224 swin_t:64 "
        "alexnet:64 inception_v3:299 mnasnet1_0:64",
    ),
    *_listed(
        "timm",
        "deit_tiny_patch16_224:224 mixer_s32_224:224 swin_tiny_patch4_window7_224:224 "
        "convnext_atto:64 resnet26d:64 tf_efficientnetv2_b0:64 repvgg_a0:64 levit_128s:224 "
        "mobilevit_xxs:64 ghostnet_100:64 res2net50_26w_4s:64 resmlp_12_224:224 "
        "poolformer_s12:64 seresnet50:64 dla34:64",
    ),
]


@torch.no_grad()
def unsettle(net: nn.Module) -> None:
    """Change biases, gains, statistics and whatever is constant, in place, to random numbers."""
    for name, tensor in net.named_buffers():
        if name.endswith("running_mean"):
            tensor.normal_(0, 0.1)
        elif name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    for parameter in net.parameters():
        if parameter.ndim == 1 or bool((parameter == parameter.flatten()[0]).all()):
            parameter.add_(0.1 * torch.randn(parameter.shape))


def measure(architecture: Architecture) -> dict[str, Any]:
    """Return what happened when an architecture was grown, for JSON.

    Where the first factor leaves more than the network's outputs as they are, the second, a whole
    one, is tried as well: groups that must be copied alike may grow by that alone.

    Args:
        architecture: What to grow.
    """
    drawn = torch.Generator().manual_seed(SEED)
    inputs = torch.randn(2, 3, architecture.size, architecture.size, generator=drawn)
    growths = []
    for factor in FACTORS:
        growths.append(grown(architecture.build(), inputs, factor))
        if "refused" not in growths[-1] and not _kept_inside(growths[-1]):
            break
    return {**asdict(architecture), "growths": growths}


def _kept_inside(growth: dict[str, Any]) -> list[str]:
    """Return the groups that stayed as they were and are no output of the network."""
    return [group for group, operation, _ in growth["refusals"] if not operation.startswith(_OUT)]


def grown(net: nn.Module, inputs: Tensor, factor: float) -> dict[str, Any]:
    """Return groups, parameters, differences, seconds and refusals of one growth, for JSON.

    Args:
        net: The teacher.
        inputs: Images, shape (images, 3, height, width).
        factor: Of every group that can grow by it.
    """
    begin = time.process_time()
    try:
        planned = plan(net, inputs, GrowthSpec(width=factor))
        student, record = apply(net, planned, seed=SEED)
    except GrowthError as error:
        return {"factor": factor, "refused": str(error)}
    seconds = time.process_time() - begin
    report = verify(net, student, inputs, record=record, strict=False, train_mode=False)
    return {
        "factor": factor,
        "groups": len(planned.groups) + len(planned.refusals),
        "grown": sum(group.grows for group in planned.groups),
        "parameters": [planned.before.parameters, planned.after.parameters],
        "float64": report.relative_float64,
        "float32": report.relative_float32,
        "rounding": report.rounding_ratio,
        "seconds": round(seconds, 1),
        "refusals": [[r.group, r.operation, r.reason] for r in planned.refusals],
    }


def inexact(entry: dict[str, Any]) -> list[float]:
    """Return the factors by which an architecture was grown, but not exactly: there are none."""
    told = [row for row in entry["growths"] if "refused" not in row]
    # negated, so that a NaN counts as well
    return [r["factor"] for r in told if not (r["float64"] <= LIMIT and r["rounding"] <= ROUNDING)]


def mostly(entry: dict[str, Any]) -> bool:
    """Return whether most of an architecture's groups grew, by one factor or the other."""
    return any(2 * row.get("grown", 0) > row.get("groups", 0) for row in entry["growths"])


def page_of(entries: list[dict[str, Any]]) -> str:
    """Return the page for a table.

    Args:
        entries: One for each architecture, from ``measure``.
    """
    good = sum(mostly(entry) for entry in entries)
    exact = sum(not inexact(entry) for entry in entries)
    header = ["architecture", "image", "factor", "groups grown / all", "parameters, millions"]
    header += ["float64", "float32", "float32 / teacher's rounding", "seconds", "left as they are"]
    rows = [_row(entry, growth) for entry in entries for growth in entry["growths"]]
    refused = [line for entry in entries for line in _refusals(entry)]
    return f"""# Which architectures grow

{len(entries)} architectures of torchvision and timm with random weights; biases, gains and
statistics are random too, so that a forgotten copy shows. In **{exact} of {len(entries)}** every
group is grown exactly or left as it is with a reason; in **{good}** most groups grow. Nothing is
grown approximately.

Every group was to grow by 1.5, drawn at random. Where more than the network's outputs stayed as
they were, the whole factor 2 was tried as well. Outputs of heads that run in training alone count.
`float64` and `float32`: largest difference of outputs over the teacher's largest, over two images,
noise, zeros and the images ten times as large (float32: over the two images). `seconds`: plan and
growth, one core, processor time.

{markdown_table(header, rows)}

## What was left as it is, and why

The outputs of each network are left out: they are refused in all of them.

{chr(10).join(refused)}

Written by a test: `make test-compat ARGS=--rewrite-pages` measures every architecture and writes
this page and the table beside it (`grow_compatibility.json`); `make test-compat` and
`make test-full` measure them again and fail where a row is not exact or tells something else.
"""


def _row(entry: dict[str, Any], growth: dict[str, Any]) -> list[str]:
    first = [f"{entry['library']} `{entry['name']}`", str(entry["size"]), f"{growth['factor']:g}"]
    if "refused" in growth:
        return [*first, "refused", *["-"] * 5, "all"]
    before, after = (f"{number / 1e6:.2f}" for number in growth["parameters"])
    return [
        *first,
        f"{growth['grown']} / {growth['groups']}",
        f"{before} → {after}",
        f"{growth['float64']:.1e}",
        f"{growth['float32']:.1e}",
        f"{growth['rounding']:.1f}",
        f"{growth['seconds']:.1f}",
        str(growth["groups"] - growth["grown"]),
    ]


def _refusals(entry: dict[str, Any]) -> list[str]:
    """Return one line for each reason of each growth, with the groups that it keeps."""
    lines = []
    for growth in entry["growths"]:
        head = f"- `{entry['name']}` x {growth['factor']:g}"
        if "refused" in growth:
            lines.append(f"{head}: {growth['refused']}")
        reasons: dict[tuple[str, str], list[str]] = {}
        for group, operation, reason in growth.get("refusals", ()):
            reasons.setdefault((operation, reason), []).append(group)
        for (operation, reason), groups in reasons.items():
            if not operation.startswith(_OUT):
                shown = ", ".join(f"`{group}`" for group in groups)
                lines.append(f"{head}: {shown}: {reason} ({operation})")
    return lines


def read() -> list[dict[str, Any]]:
    """Return the stored table; empty where there is none yet."""
    text = TABLE.read_text(encoding="utf-8") if TABLE.exists() else "[]"
    entries: list[dict[str, Any]] = json.loads(text)
    return entries


def keep(entry: dict[str, Any]) -> None:
    """Put a measured architecture into the stored table, and write the page anew.

    Args:
        entry: From ``measure``.

    Raises:
        ValueError: It was grown, but not exactly: such a row is a fault, and no news.
    """
    if inexact(entry):
        raise ValueError(f"{entry['name']}: was not grown exactly by {inexact(entry)}")
    known = {row["name"]: row for row in read()} | {entry["name"]: entry}
    entries = [known[a.name] for a in ARCHITECTURES if a.name in known]
    TABLE.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page_of(entries), encoding="utf-8")


def main(names: list[str]) -> None:
    """Measure architectures and write table and page after each.

    Args:
        names: Of the architectures; all where there are none.
    """
    torch.set_num_threads(1)
    for architecture in ARCHITECTURES:
        if not names or architecture.name in names:
            keep(measure(architecture))


if __name__ == "__main__":
    main(sys.argv[1:])
