"""The pictures of the pipeline come from what a unit really keeps and what a run really records."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from tiny_forget_relearn import judged, lean_config, tiny_config

from relearn.arm_store import save_arm, tables_of
from relearn.pipelines.forget_relearn import figures

ARMS = {
    "pgd_at": "pgd_at",
    "pgd_at_stopped": "pgd_at",
    "forget_relearn": "forget_relearn",
}


@pytest.fixture(scope="module")
def units(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    rows = []
    for arm, training in ARMS.items():
        folder = tmp_path_factory.mktemp(arm)
        save_arm(judged(training, arm), folder)
        rows.append((arm, 0, str(folder)))
    return pd.DataFrame(rows, columns=["arm", "seed", "path"])


def records_of(units: pd.DataFrame) -> pd.DataFrame:
    return tables_of([Path(path) for path in units["path"]])["records"]


def titles(figure) -> list[str]:
    return [axis.get_title(loc="left") for axis in figure.axes]


def test_the_overview_shows_a_panel_for_everything_that_was_recorded(units: pd.DataFrame) -> None:
    records = records_of(units)
    figure = figures.overview(records, pd.DataFrame(), lean_config())
    assert len(figure.axes) == 6  # corruptions are off


def test_the_baseline_is_the_candidate_that_is_best_on_validation(units: pd.DataFrame) -> None:
    records = records_of(units)
    assert figures.baseline_of(records, lean_config()) == "pgd_at_stopped"
    named = lean_config(evidence__baseline_arm="pgd_at")
    assert figures.baseline_of(records, named) == "pgd_at"
    assert figures.baseline_of(records.iloc[:0], lean_config()) == "pgd_at"


def test_before_and_after_reads_the_pictures_that_the_unit_keeps(units: pd.DataFrame) -> None:
    figure = figures.before_after(units, lean_config())
    assert len(figure.axes) == 5  # cycles, and two panels for each of both forgettings
    changed = figures.changed(units, lean_config())
    assert list(changed)[:4] == ["cycle", "view", "change", "index"]
    assert set(changed["cycle"]) <= {1, 2}


def test_a_unit_without_pictures_says_how_to_get_them(units: pd.DataFrame) -> None:
    plain = units[units["arm"] == "pgd_at"]
    figure = figures.before_after(plain, lean_config())
    assert "forget_relearn.monitor.pictures" in titles(figure)[0]
    assert figures.changed(plain, lean_config()).empty


@pytest.mark.parametrize(("study", "title"), [("layers", "layers"), ("components", "component")])
def test_a_study_is_drawn_as_bars_of_what_each_variant_earns(study: str, title: str) -> None:
    from relearn.methods.forget_relearn.arms import arms_of

    config = tiny_config(compare=study)
    rows = [
        (
            "forget_relearn",
            arm,
            seed,
            "validation",
            6,
            "robust_accuracy",
            0.3 + 0.01 * k + 0.01 * seed,
        )
        for k, arm in enumerate(arms_of(config))
        for seed in (0, 1)
    ]
    columns = ["method", "arm", "seed", "task", "step", "metric", "value"]
    figure = figures.study_figure(pd.DataFrame(rows, columns=columns), config)
    assert title in titles(figure)[0]
    assert len(figure.axes[0].patches) == len(arms_of(config)) - 1


def test_the_grid_reads_share_and_length_off_the_names_of_the_arms() -> None:
    from relearn.methods.forget_relearn.arms import arms_of

    config = tiny_config(compare="fraction_length", study__lengths__count=1)
    rows = [
        ("forget_relearn", arm, 0, "validation", 6, "robust_accuracy", 0.3)
        for arm in arms_of(config)
    ]
    columns = ["method", "arm", "seed", "task", "step", "metric", "value"]
    figure = figures.study_figure(pd.DataFrame(rows, columns=columns), config)
    assert len(figure.axes[0].texts) == config.study.fractions.count


def test_without_a_study_the_figure_says_so() -> None:
    columns = ["method", "arm", "seed", "task", "step", "metric", "value"]
    figure = figures.study_figure(pd.DataFrame(columns=columns), tiny_config())
    assert "No study" in titles(figure)[0]
