"""Every fault in the parameters is one line: which, what it got, what was expected."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
from kedro.config import OmegaConfigLoader

from relearn.errors import ParameterError
from relearn.parameters import Parameters, SeedsConfig, check_parameters
from relearn.tracking.writer import flatten

PROJECT = Path(__file__).resolve().parents[1]


@cache
def base():
    from kedro.framework.project import configure_project, settings

    configure_project("relearn")
    loader = OmegaConfigLoader(conf_source=str(PROJECT / "conf"), **settings.CONFIG_LOADER_ARGS)
    return loader["parameters"]


def changed(**changes):
    """Return the tree of base with dotted names set; ``__delete__`` takes a name away."""
    tree = copy.deepcopy(base())
    for dotted, value in changes.items():
        *above, name = dotted.split("__")
        place = tree
        for key in above:
            place = place[key]
        if value == "delete":
            del place[name]
        else:
            place[name] = value
    return tree


def lines_of(tree):
    with pytest.raises(ParameterError) as caught:
        check_parameters(tree, PROJECT)
    return str(caught.value).splitlines()


def test_base_is_accepted_and_typed():
    parameters = check_parameters(base(), PROJECT)
    assert isinstance(parameters, Parameters)
    assert parameters.blocks()["zap"] is parameters.zap


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"tran": {"epochs": 3}}, "tran: unknown, did you mean"),
        ({"zap__policy__evry": 3}, "zap.policy.evry: unknown, did you mean every?"),
        ({"zap__polcy": {"every": 3}}, "zap.polcy: unknown, did you mean policy?"),
        ({"data__split__trainshare": 0.5}, "did you mean train_share?"),
        ({"compare__secondary__asb__metrc": "x"}, "did you mean metric?"),
        ({"execution__xyzzy": 1}, "execution.xyzzy: unknown, expected one of device, precision"),
        ({"seeds__count": "three"}, "seeds.count: got 'three', expected a valid integer"),
        ({"seeds__count": 0}, "seeds.count: got 0, expected greater than or equal to 1"),
        ({"seeds__count": 2.0}, "seeds.count: got 2.0, expected a valid integer"),
        ({"seeds__count": True}, "seeds.count: got True, expected a valid integer"),
        ({"seeds": [0, 1, 2]}, "seeds: got [0, 1, 2], expected a valid dictionary"),
        ({"zap__policy__every": {"a": 1}}, "zap.policy.every: got a block, expected"),
        ({"execution__device": "gpu"}, "execution.device: got 'gpu', expected 'auto', 'cpu' or"),
        ({"zap__train__learning_rate": float("nan")}, "zap.train.learning_rate: got nan, expected"),
        ({"tracking__enabled": "yes"}, "tracking.enabled: got 'yes', expected a valid boolean"),
        ({"zap__policy__every": "delete"}, "zap.policy.every: is missing"),
        ({"zap": "delete"}, "zap: is missing"),
        ({"profile": "../elsewhere"}, "profile: got '../elsewhere', expected"),
    ],
)
def test_a_fault_is_one_line_that_names_it(change, line):
    lines = lines_of(changed(**change))
    assert len(lines) == 1
    assert line in lines[0]


def test_a_rule_between_fields_names_the_field_as_it_stands_in_yaml():
    (line,) = lines_of(changed(zap__policy__unit="episodes"))
    assert line.startswith("zap.policy.unit: ")
    (line,) = lines_of(changed(pretrain__model__name="convnet33"))
    assert line.startswith("pretrain.model.name: ")
    assert "did you mean convnet3" in line


def test_all_faults_are_told_at_once():
    lines = lines_of(changed(tran=1, seeds__count="x", zap__policy__evry=2))
    assert len(lines) == 3


def test_paths_start_from_the_project_and_the_home_folder():
    tree = changed(
        data__source_path="mine/images.zip", data__cache_folder="~/cache", storage__folder="/abs/x"
    )
    parameters = check_parameters(tree, PROJECT)
    assert parameters.data.source_path == str(PROJECT / "mine/images.zip")
    assert parameters.data.cache_folder == str(Path.home() / "cache")
    assert parameters.storage.folder == "/abs/x"


def test_empty_paths_and_the_word_base_are_no_paths():
    parameters = check_parameters(changed(add_classes__checkpoint="base"), PROJECT)
    assert parameters.data.source_path == ""
    assert parameters.add_classes.checkpoint == "base"


def test_the_tree_that_was_checked_is_not_changed():
    tree = changed(data__source_path="mine")
    before = copy.deepcopy(tree)
    check_parameters(tree, PROJECT)
    assert tree == before


def test_seeds_count_from_the_first():
    assert list(SeedsConfig(first=5, count=3).all) == [5, 6, 7]


def test_parameters_flatten_to_the_names_of_yaml():
    flat = flatten(check_parameters(base(), PROJECT).model_dump())
    assert flat["seeds.count"] == "3"
    assert flat["zap.policy.every"] == str(base()["zap"]["policy"]["every"])
    assert not any(value.startswith("{") for value in flat.values())
