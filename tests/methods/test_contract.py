"""What every method package promises. A further method is one further row of ``CASES``."""

from __future__ import annotations

import importlib
import inspect
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
import tiny_forget_relearn
import tiny_grow
import tiny_lora_ipc
import tiny_probe
import torch
from pydantic import BaseModel, ValidationError
from tiny_zap import tiny_base, tiny_config, tiny_stream

from relearn.errors import ParameterError
from relearn.models.checkpoint import Checkpoint, build

if TYPE_CHECKING:
    from relearn.data.images import Stream
    from relearn.evaluation.records import ArmResult, Intervention


@dataclass(frozen=True)
class Case:
    """One method, small enough to run in a second.

    Attributes:
        method: Name of the package.
        config: Makes its configuration.
        base: Makes the checkpoint that its arms are given.
        stream: Makes the data.
        baseline: A baseline arm.
        treated: Arms with interventions; one at least starts from the base's own weights.
        module_with_verify: Module whose ``verify(entry, architecture)`` proves a ledger row.
    """

    method: str
    config: Callable[[], BaseModel]
    base: Callable[[], Checkpoint]
    stream: Callable[[], Stream]
    baseline: str
    treated: tuple[str, ...]
    module_with_verify: str


CASES = [
    Case(
        method="zap",
        config=lambda: tiny_config(start_from="base"),
        base=tiny_base,
        stream=tiny_stream,
        baseline="iid",
        treated=("iid_zap", "iid_shrink_perturb", "iid_moments"),
        module_with_verify="ledger",
    ),
    Case(
        method="forget_relearn",
        config=lambda: tiny_forget_relearn.lean_config(start_from="base", train__epochs=4),
        base=tiny_forget_relearn.tiny_base,
        stream=tiny_forget_relearn.tiny_stream,
        baseline="pgd_at",
        treated=("forget_relearn", "forget_relearn_student", "share_zero", "forget_early"),
        module_with_verify="ledger",
    ),
    Case(
        method="grow",
        config=tiny_grow.base_config,
        base=tiny_grow.tiny_base,
        stream=tiny_grow.tiny_stream,
        baseline="scratch_total",
        treated=("grown", "random_pad"),
        module_with_verify="ledger",
    ),
    Case(
        method="lora_ipc",
        config=tiny_lora_ipc.tiny_config,
        base=tiny_lora_ipc.tiny_base,
        stream=tiny_lora_ipc.tiny_stream,
        baseline="lorac",
        treated=("lorac_ipc", "lorac_ipc_random"),
        module_with_verify="freezing",
    ),
    Case(
        method="last_layer_probe",
        config=tiny_probe.tiny_config,
        base=tiny_probe.tiny_base,
        stream=tiny_probe.tiny_stream,
        baseline="linear",
        treated=("random_fc1_64", "random_fc1_8"),
        module_with_verify="ledger",
    ),
]
ARGUMENTS = ("base", "stream", "config", "arm", "seed", "log", "resume", "device")

pytestmark = pytest.mark.parametrize("case", CASES, ids=lambda case: case.method)


def part(case: Case, module: str) -> Any:
    return importlib.import_module(f"relearn.methods.{case.method}.{module}")


@cache
def result_of(case: Case, arm: str, seed: int = 0, repetition: int = 0) -> ArmResult:
    train = part(case, "train")
    run = train.train_baseline if arm == case.baseline else train.train_treated
    result: ArmResult = run(case.base(), case.stream(), case.config(), arm=arm, seed=seed)
    return result


def verified(case: Case, entry: Intervention, checkpoint: Checkpoint) -> bool:
    found: bool = part(case, case.module_with_verify).verify(entry, checkpoint.architecture)
    return found


def with_number_for_text(plain: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with the first text, however deep, replaced by a number."""
    for name, value in plain.items():
        if isinstance(value, str):
            return {**plain, name: 7}
        if isinstance(value, dict) and (inner := with_number_for_text(value)):
            return {**plain, name: inner}
    return {}


def test_the_configuration_is_frozen(case: Case):
    config = case.config()
    for name in type(config).model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(config, name, None)


def test_the_configuration_refuses_unknown_keys_and_converts_nothing(case: Case):
    plain = case.config().model_dump()
    kind = type(case.config())
    assert kind.model_validate(plain) == case.config()
    with pytest.raises(ValidationError):
        kind.model_validate({**plain, "no_such_knob": 1})
    with pytest.raises(ValidationError):
        kind.model_validate(with_number_for_text(plain))


def test_the_configuration_imports_without_torch(case: Case):
    code = (
        f"import sys, relearn.methods.{case.method}.config as c; "
        "sys.exit(sum(n in sys.modules for n in ('torch', 'pandas', 'mlflow', 'kedro')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_both_trainings_have_the_agreed_signature(case: Case):
    for name in ("train_baseline", "train_treated"):
        found = inspect.signature(getattr(part(case, "train"), name)).parameters
        assert tuple(found) == ARGUMENTS
        kinds = [found[n].kind for n in ARGUMENTS]
        assert set(kinds[:3]) == {inspect.Parameter.POSITIONAL_OR_KEYWORD}
        assert set(kinds[3:]) == {inspect.Parameter.KEYWORD_ONLY}


def test_equal_seeds_give_equal_records_weights_and_ledgers(case: Case):
    for arm in (case.baseline, *case.treated):
        one, two = result_of(case, arm), result_of(case, arm, repetition=1)
        assert one.records == two.records
        assert one.interventions == two.interventions
        assert one.checkpoint.digest == two.checkpoint.digest
        assert one.order_digest == two.order_digest
        assert all(torch.equal(v, two.predictions[n]) for n, v in one.predictions.items())


def test_another_seed_gives_other_records_and_another_order(case: Case):
    one, two = result_of(case, case.baseline), result_of(case, case.baseline, seed=1)
    assert [r.value for r in one.records] != [r.value for r in two.records]
    assert one.order_digest != two.order_digest


def test_global_random_numbers_are_neither_used_nor_moved(case: Case):
    arm = case.treated[0]
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    again = result_of(case, arm, repetition=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert again.records == result_of(case, arm).records


def test_the_input_checkpoint_and_the_stream_keep_every_bit(case: Case):
    base, stream = case.base(), case.stream()
    weights = {name: tensor.clone() for name, tensor in base.weights.items()}
    pixels = {n: (s.images.clone(), s.labels.clone()) for n, s in stream.splits.items()}
    for arm in (case.baseline, *case.treated):
        train = part(case, "train")
        run = train.train_baseline if arm == case.baseline else train.train_treated
        run(base, stream, case.config(), arm=arm, seed=3)
    assert all(torch.equal(tensor, base.weights[name]) for name, tensor in weights.items())
    for name, (images, labels) in pixels.items():
        assert torch.equal(images, stream.splits[name].images)
        assert torch.equal(labels, stream.splits[name].labels)


def test_all_arms_of_a_seed_consume_the_same_batches(case: Case):
    orders = {result_of(case, arm).order_digest for arm in (case.baseline, *case.treated)}
    assert len(orders) == 1
    assert orders != {""}


def test_records_are_finite_named_and_hold_the_headline(case: Case):
    evidence = case.config().evidence  # type: ignore[attr-defined]
    for arm in (case.baseline, *case.treated):
        records = result_of(case, arm).records
        assert {(r.method, r.arm, r.seed) for r in records} == {(case.method, arm, 0)}
        assert all(math.isfinite(r.value) for r in records)
        headline = [
            r
            for r in records
            if (r.task, r.metric) == (evidence.headline_task, evidence.headline_metric)
        ]
        assert headline
        keys = [(r.task, r.step, r.metric) for r in records]
        assert len(keys) == len(set(keys))


def test_treated_arms_measure_all_that_the_baseline_measures(case: Case):
    def measured(arm: str) -> set[tuple[str, str]]:
        return {(r.task, r.metric) for r in result_of(case, arm).records}

    for arm in case.treated:
        assert measured(case.baseline) <= measured(arm)


def test_costs_stand_apart_from_records_and_name_training_seconds(case: Case):
    for arm in (case.baseline, *case.treated):
        result = result_of(case, arm)
        costs = {r.metric: r.value for r in result.costs}
        assert costs["train_seconds"] > 0
        assert costs["parameters"] > 0
        assert not any("seconds" in r.metric for r in result.records)


def test_only_treated_arms_intervene_and_every_ledger_row_verifies(case: Case):
    assert result_of(case, case.baseline).interventions == []
    for arm in case.treated:
        result = result_of(case, arm)
        assert result.interventions
        assert all(verified(case, row, result.checkpoint) for row in result.interventions)


def test_a_baseline_is_not_trained_as_treated_nor_the_other_way_round(case: Case):
    train = part(case, "train")
    pairs = [(train.train_baseline, case.treated[0]), (train.train_treated, case.baseline)]
    for run, arm in pairs:
        with pytest.raises(ParameterError, match=f"{case.method}\\."):
            run(case.base(), case.stream(), case.config(), arm=arm, seed=0)


def test_an_unknown_arm_is_refused_with_a_near_miss(case: Case):
    with pytest.raises(ParameterError, match=f"did you mean {case.baseline}"):
        part(case, "train").train_baseline(
            case.base(), case.stream(), case.config(), arm=case.baseline + "x", seed=0
        )


def test_the_checkpoint_says_what_made_it_and_builds(case: Case):
    result = result_of(case, case.treated[0])
    told = result.checkpoint.provenance
    assert (told["method"], told["arm"], told["seed"]) == (case.method, case.treated[0], 0)
    assert told["stream"] == case.stream().digest
    net = build(result.checkpoint)
    assert len(told["class_names"]) <= result.checkpoint.architecture.classes
    assert all(torch.equal(v, result.checkpoint.weights[n]) for n, v in net.state_dict().items())


def test_the_inference_module_exports_with_any_batch_size(case: Case):
    checkpoint = result_of(case, case.treated[0]).checkpoint
    module = part(case, "inference").inference_module(checkpoint)
    images = case.stream().split("train").images[:7]
    eager = module(images)
    assert eager.shape == (7, checkpoint.architecture.classes)
    assert torch.allclose(eager.sum(1), torch.ones(7), atol=1e-5)
    assert bool((eager >= 0).all())
    batch = torch.export.Dim("batch", min=1, max=1024)
    exported = torch.export.export(module, (images[:2],), dynamic_shapes=({0: batch},))
    for count in (1, 2, 7):
        found = exported.module()(images[:count])
        assert torch.allclose(found, eager[:count], atol=1e-6)
