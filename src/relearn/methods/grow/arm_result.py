"""A finished arm as records, costs, ledger and checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from relearn.evaluation.efficiency import parameter_count, peak_memory_bytes
from relearn.evaluation.records import ArmResult, Record, Recorder
from relearn.methods.grow.forecast import median_latency
from relearn.methods.grow.growing import inputs_of
from relearn.methods.grow.judge import judge
from relearn.models.checkpoint import capture
from relearn.provenance import digest

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.methods.grow.pair import Pair
    from relearn.methods.grow.student_run import StudentRun


def conclude(run: StudentRun, pair: Pair, stream: Stream) -> ArmResult:
    """Judge a finished arm and return all that is kept of it.

    Args:
        run: The arm.
        pair: Images, teacher and growth.
        stream: Named in the provenance.
    """
    with run.watch("judge"):
        predictions = judge(run, pair)
    finals = {r.metric: r.value for r in run.recorder.records if r.task == "test"}
    run.log(run.steps, {f"test_{name}": value for name, value in finals.items()})
    return ArmResult(
        checkpoint=capture(run.net, run.architecture, _provenance(run, pair, stream)),
        records=run.recorder.records,
        costs=_costs(run),
        interventions=run.interventions,
        predictions=predictions,
        order_digest=run.order_digest,
    )


def _provenance(run: StudentRun, pair: Pair, stream: Stream) -> dict[str, Any]:
    returned = run.returned_at >= 0
    return {
        "method": "grow",
        "arm": run.arm.name,
        "seed": run.seed,
        "config": digest(run.config),
        "stream": stream.digest,
        "steps": run.steps,
        # the teacher that is delivered in place of a net that was given up is as it was trained
        "steps_since_intervention": pair.teacher.told["steps"] if returned else run.steps,
        "interventions": len(run.interventions),
        "returned_at": run.returned_at,
        "class_names": list(pair.samples.class_names),
        "class_numbers": [int(c) for c in pair.samples.class_numbers],
        "teacher_checkpoint": pair.teacher.checkpoint.digest,
        "order_digest": run.order_digest,
        **run.start.facts,
    }


def _costs(run: StudentRun) -> list[Record]:
    seconds, told = run.watch.seconds, run.teacher.told
    own = seconds["train"] - seconds.get("validation", 0.0)
    taught = float(told["seconds"]) - float(told["validation_seconds"])
    before = taught if run.arm.inherits else 0.0
    spent, often = run.steps * run.flops_per_step, run.config.evaluation
    batch = inputs_of(run.samples.validation, run.architecture, often.latency_batch)
    recorder = Recorder("grow", run.arm.name, run.seed)
    recorder.add(
        "cost",
        0,
        {
            "train_seconds": own + before,
            "student_train_seconds": own,
            "teacher_train_seconds": before,
            "growth_seconds": seconds["growth"],
            "verify_seconds": seconds["verify"],
            "validation_seconds": seconds.get("validation", 0.0),
            "judge_seconds": seconds["judge"],
            "total_seconds": seconds["train"] + seconds["judge"],
            "train_flops": spent + run.inherited_flops,
            "student_train_flops": spent,
            "parameters": float(parameter_count(run.net)),
            "forward_flops": float(run.forward_flops),
            "latency_seconds": median_latency(run.net, batch, repeats=often.latency_repeats),
            "peak_memory_bytes": float(peak_memory_bytes(run.device.name)),
        },
    )
    return recorder.records
