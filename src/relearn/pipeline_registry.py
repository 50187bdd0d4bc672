"""The named pipelines: what ``kedro run --pipeline <name>`` starts.

prepare_data   source -> images -> splits -> stream        read and divide the images
pretrain       stream -> base                              one net that all methods start from
zap            base, stream -> zap.records, ledger         reset the last layer again and again
zap_map        base, stream -> zap_map.table              for which data does it pay?
compare        records of all methods -> report            does it help on these images?
add_classes    base or unit, new folder -> checkpoint      new classes, old ones checked
promote        decision, units -> model registry           roll out, and back

``kedro run`` alone is the pilot: prepare_data, pretrain, zap, compare. Nothing here imports torch.
"""

from __future__ import annotations

from kedro.pipeline import Pipeline

from relearn.pipelines import add_classes, compare, prepare_data, pretrain, promote, zap, zap_map

PILOT = ("prepare_data", "pretrain", "zap", "compare")
"""What ``kedro run`` does, in the order of the road."""


def register_pipelines() -> dict[str, Pipeline]:
    """Return every pipeline by name, and the pilot as ``__default__``."""
    named = {
        "prepare_data": prepare_data.create_pipeline(),
        "pretrain": pretrain.create_pipeline(),
        "zap": zap.create_pipeline(),
        "zap_map": zap_map.create_pipeline(),
        "compare": compare.create_pipeline(),
        "add_classes": add_classes.create_pipeline(),
        "promote": promote.create_pipeline(),
    }
    pilot = sum((named[name] for name in PILOT), start=Pipeline([]))
    return {"__default__": pilot, **named}
