"""Which arms a configuration asks for."""

from __future__ import annotations

import pytest
from tiny_zap import tiny_config

from relearn.errors import ParameterError
from relearn.methods.zap.arms import arm_named, arms_of, baseline_of
from relearn.methods.zap.config import Initialisation


def test_the_arms_switched_on_are_trained_and_no_others():
    config = tiny_config(arms__meta=False, arms__asb_zap=False)
    arms = arms_of(config)
    assert list(arms) == [
        "iid",
        "iid_zap",
        "asb",
        "meta_zap",
        "iid_shrink_perturb",
        "iid_moments",
    ]
    assert {a.name: (a.pretraining, a.change) for a in arms.values()} == {
        "iid": ("iid", "none"),
        "iid_zap": ("iid", "zap"),
        "asb": ("asb", "none"),
        "meta_zap": ("meta", "zap"),
        "iid_shrink_perturb": ("iid", "shrink_and_perturb"),
        "iid_moments": ("iid", "moments"),
    }
    assert [a.name for a in arms.values() if not a.treated] == ["iid", "asb"]


def test_each_scheme_has_its_own_policy():
    config = tiny_config(policy__every=3, episode_policy__every=2)
    arms = arms_of(config)
    assert arms["iid_zap"].policy.every == arms["iid_moments"].policy.every == 3
    assert arms["asb_zap"].policy.every == arms["meta_zap"].policy.every == 2


@pytest.mark.parametrize("scheme", ["iid", "asb"])
def test_the_frequency_study_has_the_baseline_and_one_arm_an_interval(scheme):
    config = tiny_config(
        compare="frequency",
        study__pretraining=scheme,
        study__frequency={"shortest": 2, "factor": 3, "variants": 3},
    )
    arms = arms_of(config)
    assert list(arms) == [scheme, *(f"{scheme}_zap_every_{n}" for n in (2, 6, 18))]
    assert [a.policy.every for a in arms.values()][1:] == [2, 6, 18]
    assert {a.pretraining for a in arms.values()} == {scheme}
    assert [a.change for a in arms.values()] == ["none", "zap", "zap", "zap"]
    assert baseline_of(config) == scheme


def test_the_initialisation_study_has_one_arm_for_each_initialisation():
    config = tiny_config(compare="initialisation")
    arms = arms_of(config)
    names = Initialisation.__args__  # type: ignore[attr-defined]
    assert list(arms) == ["iid", *(f"iid_zap_{name}" for name in names)]
    assert [a.reset.initialisation for a in arms.values()][1:] == list(names)
    assert len({a.policy for a in arms.values()}) == 1


def test_the_baseline_of_the_arms_is_the_one_said_before_the_run():
    assert baseline_of(tiny_config(evidence__baseline_arm="asb")) == "asb"


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"evidence__treated_arm": "iid_zapp"}, ("evidence.treated_arm", "did you mean iid_zap")),
        ({"evidence__baseline_arm": "idd"}, ("evidence.baseline_arm", "did you mean iid")),
        ({"evidence__sham_arm": "iid_moment"}, ("evidence.sham_arm", "did you mean iid_moments")),
        ({"arms__iid_zap": False}, ("evidence.treated_arm", "'iid_zap' is not switched on")),
    ],
)
def test_an_arm_named_as_evidence_must_be_on(changes, parts):
    with pytest.raises(ParameterError) as caught:
        arms_of(tiny_config(**changes))
    assert all(part in str(caught.value) for part in parts)
    assert len(str(caught.value).splitlines()) == 1


def test_no_sham_is_no_fault():
    arms = arms_of(tiny_config(evidence__sham_arm="", arms__iid_moments=False))
    assert "iid_moments" not in arms


def test_an_arm_that_is_off_is_not_found():
    config = tiny_config(arms__meta=False)
    assert arm_named(config, "asb").name == "asb"
    with pytest.raises(ParameterError, match=r"zap\.arms: no arm 'meta'"):
        arm_named(config, "meta")
