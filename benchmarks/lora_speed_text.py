"""The page on the speed of low-rank modules, as text, from what ``bench_lora.py`` printed last."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = """# Speed of low-rank modules

<!-- written by benchmarks/speed_page.py from benchmarks/results/lora.json; do not edit -->

`make bench PEER_LORA=<checkout of learninginvision/LoRAC-IPC>` measures this table (the rows beside
PEFT need the package `peft` on PYTHONPATH), and `python benchmarks/speed_page.py` writes this page
from it. Both codes run the same net (without modules both say the same, which is checked first) on
the same noise, in processes of their own that take turns. A figure is the median over repetitions;
a ratio is the median of the ratios of neighbours, and above 1 ours is faster. Time is CPU time; the
ratio by the clock, which is worth something on an idle machine alone, stands beside it.
"""

BESIDE = """
The official code is run to its advantage: one process, no synchronisation, nothing printed, its
inverse covariances at hand. It measures importance in every step, as it is written; ours in the
last 40 of a task, and the `_watched` row shows a step in which it does.

What makes the difference: earlier products are never made one by one, but composed into one weight
by one product with all their factors; their gradients by hand, from (x [A_1 .. A])^T g, one product
for all matrices that read the same x, or through dW where that is cheaper; products with few
columns written with few rows, which a CPU makes several times faster; no product with rows whose
gradient is zero, which in the last block of a net that answers from its class token are all but one
a picture; the gradient of x and what a mixed batch reads by oneDNN where torch has it; only the
factors of the present task in the optimizer; no Gram matrix of all columns in the penalty, which is
told at once for all matrices of a shape; and in a mixed batch one product for all images of a task
with a weight composed before, where the official code runs image after image and composes each
time. What both must do, W x and the gradient of x, is the larger part of a step at width 192 and
bounds the ratio there.
"""

FLAT = """
The floor: as long as omega of every earlier module is trained, its exact gradient costs rows x
columns x (d_in + d_out) multiplications a step and the composition columns x d_in x d_out, with
columns = tasks x rank; or rows x d_in x d_out where dW is made. At width 768, rank 16 and 1576 rows
19 tasks more are 8.8 G multiplications in each block beside about 25 G without them, a third.

At width 192, 2080 rows and six blocks, in multiplications: W x 5.5 G and the gradient of x 4.6 G
(none for q, k, v of the first block, and for three matrices of the last one for the class token
alone) are there after any number of tasks, 10.1 G. One earlier module and the present one add 1.0 G
through their factors. Twenty and the present one add 5.7 G: dW 4.8 G, the composition with 168
columns and A^T dW 0.45 G each. That is 1.43 times the products of the step after one task.
Attention, norms, GELU and all else take about as much time as another 6 G and are the same in both,
which leaves an estimate of 1.27 times the time (a ratio of 0.79) for a step after one task that
wastes nothing: 1.1 cannot be reached in fp32 with every matrix learning. With dW in bf16 for omega
alone, which is twice as fast here, and the factors' gradients in fp32 it would still be about 1.2;
it is not done. The table may show a ratio nearer to 1, because the step after one task has more
beside its large products; what makes that step faster lowers the ratio while both steps gain. The
goal is reached as the method is published, where matrices are frozen and folded (`_frozen`), and
with omega off (`_folded`).
"""


def plain_line(row: Mapping[str, Any]) -> str:
    """Return what a row that is no race found.

    Args:
        row: With ours, margin, unit, against and conditions.
    """
    verdict = "within" if row["within_margin"] else "NOT within"
    return (
        f"- `{row['name']}`: {row['ours']:.4g} {row['unit']} (against {row['against']}): {verdict} "
        f"the margin of {row['margin']:g} that was said before; {row['conditions']}.\n"
    )
