"""The cost told before a run: counted against the course really run, exact on a made-up clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache
from time import process_time

import pytest
import torch
from tiny_forget_relearn import tiny_base, tiny_config, tiny_stream

from relearn.methods.forget_relearn import estimate as counting
from relearn.methods.forget_relearn.arm_result import judge
from relearn.methods.forget_relearn.arms import trainings_of
from relearn.methods.forget_relearn.cycle import Cycle
from relearn.methods.forget_relearn.epoch_kinds import StepKind, course_of
from relearn.methods.forget_relearn.estimate import estimate, judging_work
from relearn.methods.forget_relearn.forecast import extrapolate, forecast, makespan, measure_steps
from relearn.methods.forget_relearn.forecast_text import duration
from relearn.methods.forget_relearn.run import train_one
from relearn.methods.forget_relearn.timed_steps import Seconds
from relearn.methods.forget_relearn.watch import Examiner


class Ticking:
    """A clock on which one second passes between two looks, and two of the processor."""

    def __init__(self) -> None:
        self.now = Seconds(0.0, 0.0)

    def __call__(self) -> Seconds:
        self.now = self.now + Seconds(1.0, 2.0)
        return self.now


@cache
def ticked(**changes):
    config = tiny_config(**changes)
    return config, estimate(tiny_base(), tiny_stream(), config, clock=Ticking(), steps=1)


def told(seeds: int = 1, workers: int = 1, price: float = 0.0, **changes):
    config, found = ticked(**changes)
    return extrapolate(found, config, seeds=seeds, workers=workers, price=(price, "EUR"))


@pytest.mark.parametrize("name", ["pgd_at", "awp", "forget_relearn", "share_zero", "forget_only"])
@pytest.mark.parametrize("every", [2, 3])
def test_the_course_counted_is_the_course_run(name, every, monkeypatch):
    config = tiny_config(**{f"trainings__{name}": True}, cycle__every_epochs=every, train__epochs=8)
    steps: Counter[StepKind] = Counter()
    seen: Counter[str] = Counter()
    real, read = Cycle.after_step, Examiner.read

    def after_step(cycle, state):
        session, perturbed = cycle.session, cycle.session.training.perturbed
        averaged = session.average is not None
        held = cycle._stable_logits is not None
        consolidating = session.stable is not None and cycle.consolidating
        steps[StepKind(averaged, perturbed, held, consolidating)] += 1
        real(cycle, state)

    def counted(examiner, net, split):
        seen[split] += 1
        return read(examiner, net, split)

    monkeypatch.setattr(Cycle, "after_step", after_step)
    monkeypatch.setattr(Examiner, "read", counted)
    trained = train_one(tiny_base(), tiny_stream(), config, training=name, seed=0)

    course = course_of(trainings_of(config)[name], config)
    assert steps == Counter({kind: 3 * epochs for kind, epochs in course.epochs.items()})
    assert course.forgettings == len(trained.recoveries)
    assert course.evaluations == seen["train"]
    assert course.validated == seen["validation"]
    # a recovery that comes early needs fewer looks than are counted
    assert seen["few"] <= course.glances <= seen["few"] + 2 * course.forgettings


def test_triggers_that_look_count_as_forgetting_as_often_as_they_may():
    config = tiny_config(cycle__trigger="plateau", train__epochs=9)
    course = course_of(trainings_of(config)["forget_relearn"], config)
    assert course.forgettings == 3  # epochs 2, 4, 6; at 8 too few epochs are left


def test_on_a_made_up_clock_the_forecast_is_exact():
    found = told()
    rows = found["trainings"]
    # six epochs of three steps of one second each; a look takes a second for 18 images
    assert rows["pgd_at"]["train_seconds"] == pytest.approx(18.0)
    assert rows["forget_relearn"]["steps"] == 18
    gradient, share = 1 / 18, counting.ALIVE
    # evaluations after epochs 2, 4 and 6: 12 training images, and 18 for student and average each
    watched = 3 * 12 + 3 * 2 * 18
    assert rows["pgd_at"]["monitor_seconds"] == pytest.approx(
        watched * gradient * (2 * share + counting.LOOK)
    )
    assert rows["pgd_at"]["cpu_seconds"] == pytest.approx(2 * rows["pgd_at"]["total_seconds"])
    assert rows["pgd_at"]["extra_percent"] == 0.0
    assert found["wall_seconds"] == pytest.approx(sum(r["total_seconds"] for r in rows.values()))
    assert found["cpu_seconds"] == pytest.approx(2 * found["wall_seconds"])


def test_pictures_and_recoveries_are_counted():
    with_pictures, without = (
        told(monitor__pictures=on)["trainings"]["forget_relearn"]["monitor_seconds"]
        for on in (True, False)
    )
    # three pictures of eight images for the first forgetting; for the second, which follows the end
    # of a relearning, two
    work = 2 * counting.ALIVE + counting.LOOK
    assert with_pictures - without == pytest.approx((3 + 2) * 8 * work / 18)


def test_more_epochs_never_cost_less():
    rows = [told(train__epochs=n)["trainings"]["forget_relearn"] for n in (4, 6, 9, 14)]
    for name in ("train_seconds", "monitor_seconds", "total_seconds"):
        found = [row[name] for row in rows]
        assert found == sorted(found)
        assert found[0] < found[-1]


def test_seeds_cost_in_proportion_and_workers_share_them():
    one, three = told(seeds=1), told(seeds=3)
    assert three["wall_seconds"] == pytest.approx(3 * one["wall_seconds"])
    assert three["cpu_seconds"] == pytest.approx(3 * one["cpu_seconds"])
    assert three["trainings"] == one["trainings"]


@pytest.mark.parametrize(
    ("units", "lanes", "end"),
    [([], 2, 0.0), ([3.0], 2, 3.0), ([3.0, 2.0, 2.0], 2, 4.0), ([1.0] * 5, 1, 5.0)],
)
def test_workers_take_the_next_unit_when_they_are_free(units, lanes, end):
    assert makespan(units, lanes) == end


def test_tuning_and_confirmation_are_counted():
    plain, tuned = told(), told(tuning__enabled=True, tuning__seeds=2)
    assert plain["tuning_seconds"] == plain["confirming_seconds"] == 0.0
    # four schedules, one rate, two seeds for each of the trainings
    assert tuned["tuning_seconds"] == pytest.approx(8 * plain["training_seconds"])
    study = told(compare="layers")
    assert study["confirming_seconds"] > 0
    assert study["extra_percent"] is not None


def test_the_price_is_that_of_the_hours_and_is_hidden_without_one():
    with_price, without = told(price=7.2), told()
    assert with_price["price"] == pytest.approx(7.2 * with_price["wall_seconds"] / 3600)
    assert "EUR" in with_price["text"]
    assert "Price" not in without["text"]


def test_a_busy_machine_is_told():
    config, found = ticked()
    slow = {
        name: replace(one, train=Seconds(3 * one.train.cpu, one.train.cpu))
        for name, one in found.items()
    }
    busy, quiet = (extrapolate(f, config, seeds=1, workers=1) for f in (slow, found))
    assert "3.0 s passed for each second" in busy["text"]
    assert "busy" not in quiet["text"]


def test_judging_costs_what_it_is_told_to_measure():
    config = tiny_config().judging
    images = {"train": 36, "validation": 18, "test": 42}
    less = config.model_copy(update={"bf16_images": 0, "transfer": False})
    more = config.model_copy(
        update={"auto_attack": config.auto_attack.model_copy(update={"version": "reduced"})}
    )
    standard = config.model_copy(
        update={"auto_attack": config.auto_attack.model_copy(update={"version": "standard"})}
    )
    work = [judging_work(one, images, 3)["gradients"] for one in (less, config, more, standard)]
    assert work == sorted(work)
    assert len(set(work)) == 4
    assert judging_work(standard, images, 3)["queries"] > judging_work(more, images, 3)["queries"]


def test_a_forecast_changes_no_weights_and_no_global_numbers():
    base, config = tiny_base(), tiny_config()
    weights = {name: value.clone() for name, value in base.weights.items()}
    torch.manual_seed(3)
    numbers = torch.random.get_rng_state()

    found = forecast(base, tiny_stream(), config, seeds=2, workers=1)

    assert torch.equal(torch.random.get_rng_state(), numbers)
    assert all(torch.equal(base.weights[name], value) for name, value in weights.items())
    for name in ("forget_relearn", "awp", "processor time", "longer than plain"):
        assert name in found["text"]
    assert found["assumptions"]
    assert found["trainings"]["awp"]["peak_memory_bytes"] > 0


def test_measured_steps_are_told_by_kind():
    found = measure_steps(
        tiny_base(), tiny_stream(), tiny_config(), training="forget_relearn", steps=1
    )
    kinds = {name for name in found if name.endswith("_step_seconds")}
    assert kinds == {
        "plain_step_seconds",
        "held_step_seconds",
        "held+consolidating_step_seconds",
    }
    assert all(value > 0 for value in found.values())


def test_the_forecast_is_within_a_factor_of_two_of_a_real_run():
    config = tiny_config(train__epochs=12, attack__steps=5, monitor__steps=6, judging__steps=20)
    base, stream = tiny_base(), tiny_stream()
    first = train_one(base, stream, tiny_config(), training="forget_relearn", seed=0)
    judge(first, stream, config, arm="forget_relearn")  # what torch does once is done
    found = estimate(base, stream, config, steps=10)["forget_relearn"]
    # time of the processor, because other work on the machine stretches the wall's
    begin = process_time()
    trained = train_one(base, stream, config, training="forget_relearn", seed=0)
    middle = process_time()
    judge(trained, stream, config, arm="forget_relearn")
    end = process_time()

    assert 0.5 < found.training.cpu / (middle - begin) < 2
    assert 0.5 < found.judge.cpu / (end - middle) < 2
    assert 0 < found.training.cpu <= 1.2 * torch.get_num_threads() * found.training.wall


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.004, "4 ms"),
        (8.34, "8.3 s"),
        (59.6, "1 min 0 s"),
        (3599.7, "1 h 0 min"),
        (90000, "1 d 1 h"),
    ],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text


def test_an_estimate_adds_up():
    _, found = ticked()
    one = found["pgd_at"]
    assert one.training == one.train + one.monitor
    assert replace(one, monitor=Seconds(0.0, 0.0)).training == one.train
