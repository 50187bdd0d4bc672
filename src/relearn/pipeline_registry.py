"""The named pipelines: what ``kedro run --pipeline <name>`` starts.

prepare_data   source -> images -> splits -> stream        read and divide the images
pretrain       stream -> base                              one net that all methods start from
zap            base, stream -> zap.records, ledger         reset the last layer again and again
zap_map        base, stream -> zap_map.table              for which data does it pay?
forget_relearn base, stream -> forget_relearn.records      forget some weights, then relearn
grow           base, stream -> grow.records, ledger         widen and deepen, then train on
last_layer_probe  base, stream -> recommendation          is more than the last layer worth it?
forget_relearn_search  base, stream -> proposal           which settings of it to try next?
grow_explore   base, stream -> grow_explore.table          which larger net is worth having?
lora_ipc       base, stream -> lora_ipc.records, ledger     task after task, modules for each
lora_ipc_operate  unit -> state, checkpoint, PEFT files     add a task, roll back, merge, export
compare        records of all methods -> report            does it help on these images?
add_classes    base or unit, new folder -> checkpoint      new classes, old ones checked
promote        decision, units -> model registry           roll out, and back

``kedro run`` alone is the pilot: prepare_data, pretrain, zap, compare. ``forget_relearn_pilot``,
``grow_pilot``, ``lora_ipc_pilot`` and ``last_layer_probe_pilot`` are the same road for those
methods, such as ``kedro run --pipeline grow_pilot``, ``kedro run --env digits --pipeline
forget_relearn_pilot`` and ``kedro run --env glyphs_lora --pipeline lora_ipc_pilot``.
Nothing here imports torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from relearn.pipelines import (
    add_classes,
    compare,
    forget_relearn,
    forget_relearn_search,
    grow,
    grow_explore,
    last_layer_probe,
    lora_ipc,
    lora_ipc_operate,
    prepare_data,
    pretrain,
    promote,
    zap,
    zap_map,
)

if TYPE_CHECKING:
    from kedro.pipeline import Pipeline

PILOT = ("prepare_data", "pretrain", "zap")
"""What ``kedro run`` does before it compares, in the order of the road."""

ROADS = {
    f"{method}_pilot": ("prepare_data", "pretrain", method)
    for method in ("forget_relearn", "grow", "lora_ipc", "last_layer_probe")
}
"""The same road for one other method, under a name of its own."""


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name, and the pilot as ``__default__``."""
    named = {
        "prepare_data": prepare_data.create_pipeline(),
        "pretrain": pretrain.create_pipeline(),
        "zap": zap.create_pipeline(),
        "zap_map": zap_map.create_pipeline(),
        "forget_relearn": forget_relearn.create_pipeline(),
        "grow": grow.create_pipeline(),
        "lora_ipc": lora_ipc.create_pipeline(),
        "lora_ipc_operate": lora_ipc_operate.create_pipeline(),
        "last_layer_probe": last_layer_probe.create_pipeline(),
        "forget_relearn_search": forget_relearn_search.create_pipeline(),
        "grow_explore": grow_explore.create_pipeline(),
        "compare": compare.create_pipeline(),
        "add_classes": add_classes.create_pipeline(),
        "promote": promote.create_pipeline(),
    }
    roads = {"__default__": PILOT, **ROADS}
    whole = {
        road: sum((named[name] for name in names), start=compare.create_pipeline(names[-1]))
        for road, names in roads.items()
    }
    return {**whole, **named}
