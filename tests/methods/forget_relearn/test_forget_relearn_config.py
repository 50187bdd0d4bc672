"""A knob that cannot be meant is refused before anything runs, with its name."""

from __future__ import annotations

import pytest
from pydantic import ValidationError
from tiny_forget_relearn import lean_config, run, tiny_base, tiny_stream

from relearn.errors import ParameterError, RelearnError
from relearn.methods.forget_relearn.run import train_one

ONE_LATE = {"cycle__trigger": "list", "cycle__at_epochs": "2 5"}
BAD = [
    ({"forget__fraction": 1.2}, r"forget\.fraction"),
    ({"forget__fraction": -0.1}, r"forget\.fraction"),
    ({"forget__fractions__late": 1.5}, r"forget\.fractions\.late"),
    ({"forget__fractions__early": 0.1}, r"fractions\.early: got 0\.1, .* does not name that"),
    ({"forget__layers": ""}, r"forget\.layers"),
    ({"cycle__warmup_epochs": 9}, r"cycle\.warmup_epochs: got 9, expected at most 4: train\.epoch"),
    ({"cycle__warmup_epochs": 5}, r"cycle\.warmup_epochs: got 5, expected at most 4"),
    ({"train__epochs": 0}, r"cycle\.warmup_epochs"),
    ({"cycle__every_epochs": 1}, "expected at least relearn_epochs=2"),
    ({"cycle__relearn_epochs": 3, "cycle__every_epochs": 2}, "a cycle that is cut short"),
    (ONE_LATE, r"cycle\.at_epochs: 5 leaves 1 of train\.epochs=6"),
    ({"cycle__trigger": "list", "cycle__at_epochs": "2, 4"}, r"cycle\.at_epochs"),
    ({"cycle__trigger": "list", "cycle__at_epochs": "two"}, r"cycle\.at_epochs"),
    ({"attack__epsilon": 0.0}, r"epsilon: got 0, expected above 0 and at most 1"),
    ({"attack__epsilon": -0.1}, "epsilon: got -0.1"),
    ({"attack__epsilon": 8.0}, "epsilon: got 8, expected above 0 and at most 1"),
    ({"attack__epsilon": float("nan")}, r"attack\.epsilon"),
    ({"attack__epsilon": 0.0, "attack__norm": "l2"}, "epsilon: got 0, expected above 0"),
    ({"attack__restarts": 2, "attack__random_start": False}, "set random_start: true"),
    ({"attack__steps": 0}, r"attack\.steps"),
    ({"train__batch_size": 1}, r"train\.batch_size: got 1, expected 2 or more"),
    ({"judging__auto_attack": {"version": "reduced", "images": 20}}, "got 20, expected 50 or more"),
    ({"judging__masking__images": 5}, r"masking\.images"),
    ({"samples__validation_images": 0}, "validation_images: got 0 with train_images=36"),
    ({"samples__label_noise": 1.0}, r"samples\.label_noise"),
    ({"roll_back__to_cycle": 1, "roll_back__keep_cycles": 0}, r"roll_back\.keep_cycles: is 0"),
    ({"average__from_epoch": 6}, r"average\.from_epoch: got 6, expected below train\.epochs=6"),
    ({"awp__warmup_epochs": 6}, r"awp\.warmup_epochs: got 6"),
    ({"compare": "fraction_length"}, r"study\.lengths: the longest is 12, expected at most 4"),
    ({"relearn__temperature": 0.0}, r"relearn\.temperature"),
    ({"consolidate__probability": 0.0}, r"consolidate\.probability"),
]


@pytest.mark.parametrize(
    ("changes", "says"), BAD, ids=["-".join(f"{k}={v}" for k, v in c.items()) for c, _ in BAD]
)
def test_a_knob_that_cannot_be_meant_is_refused(changes, says):
    with pytest.raises(ValidationError, match=says) as caught:
        lean_config(**changes)
    assert len(caught.value.errors()) == 1


GOOD = [
    {"train__batch_size": 1, "attack__batch_norm": "running"},
    {"attack__epsilon": 2.0, "attack__norm": "l2"},
    {"attack__random_start": False},
    {"judging__auto_attack": {"version": "reduced", "images": 0}},
    {"cycle__warmup_epochs": 4},
    {"cycle__trigger": "list", "cycle__at_epochs": " 4  2 "},
    {"forget__layers": "all", "forget__fractions__early": 0.1},
    {"roll_back__to_cycle": 2},
]


@pytest.mark.parametrize("changes", GOOD, ids="-".join)
def test_a_knob_at_its_border_is_taken(changes):
    lean_config(**changes)


AT_THE_IMAGES = [
    (
        {"judging__auto_attack": {"version": "reduced", "images": 0}},
        r"forget_relearn\.judging\.auto_attack\.images: there are 42 test images, expected 50",
    ),
    ({"forget__layers": "latte"}, r"forget_relearn\.forget\.layers: 'latte' is not known"),
    ({"forget__layers": "early+head"}, r"forget_relearn\.forget\.allow_early=true"),
    ({"loss__name": "trades", "attack__random_start": False}, r"attack\.random_start"),
    ({"samples__train_images": 90, "samples__validation_images": 6}, r"samples\.train_images"),
    ({"head": "blocks"}, "head"),
]


@pytest.mark.parametrize(("changes", "says"), AT_THE_IMAGES, ids=[str(c) for c, _ in AT_THE_IMAGES])
def test_what_does_not_fit_the_net_or_the_images_is_refused_before_the_first_step(changes, says):
    logged = []
    with pytest.raises(RelearnError, match=says):
        train_one(
            tiny_base(),
            tiny_stream(),
            lean_config(**changes),
            training="forget_relearn",
            seed=0,
            log=lambda step, values: logged.append(step),
        )
    assert logged == []


def test_a_training_that_is_switched_off_is_refused_with_those_that_are_on():
    with pytest.raises(ParameterError, match=r"trainings: 'awp' is not switched on; there are pgd"):
        run("awp", trainings__awp=False)


def test_values_of_a_stable_model_that_is_not_kept_are_refused() -> None:
    with pytest.raises(ParameterError, match=r"^forget_relearn\.forget\.initialisation: stable"):
        run("forget_only", forget__initialisation="stable")
