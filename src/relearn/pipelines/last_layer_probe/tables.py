"""Tables that several arms make together: means, curves, width laws, ranks of hints, costs."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING, Any

from relearn.methods.last_layer_probe.arms import NOISE

if TYPE_CHECKING:
    import pandas as pd

_FEWEST_PAIRS = 4


def values_of(records: pd.DataFrame, task: str, metric: str) -> pd.DataFrame:
    """Return the rows of one metric.

    Args:
        records: Rows of all arms.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    return records[(records["task"] == task) & (records["metric"] == metric)]


def final_by_seed(records: pd.DataFrame, task: str, metric: str) -> dict[str, dict[int, float]]:
    """Return arm to seed to the value at the largest step.

    Args:
        records: Rows of all arms.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    from relearn.reports.comparison import final_values

    found: dict[str, dict[int, float]] = {}
    final = final_values(records, task=task, metric=metric)
    for arm, seed, value in zip(final["arm"], final["seed"], final["value"], strict=True):
        found.setdefault(str(arm), {})[int(seed)] = float(value)
    return found


def means_of(records: pd.DataFrame, task: str, metric: str) -> dict[str, float]:
    """Return arm to the mean over seeds of the value at the largest step, in order of the records.

    Args:
        records: Rows of all arms.
        task: As in ``Record.task``.
        metric: As in ``Record.metric``.
    """
    found = final_by_seed(records, task, metric)
    order = [str(arm) for arm in dict.fromkeys(records["arm"]) if arm in found]
    return {arm: sum(found[arm].values()) / len(found[arm]) for arm in order}


def correct(predictions: pd.DataFrame) -> dict[tuple[str, int], list[bool]]:
    """Return (arm, seed) to whether each test image was answered rightly, in stored order.

    Args:
        predictions: Columns arm, seed, index, label, predicted.
    """
    found = {}
    for _, rows in predictions.groupby(["arm", "seed"], sort=False):
        ordered = rows.sort_values("index")
        arm, seed = str(rows["arm"].iloc[0]), int(rows["seed"].iloc[0])
        hits = ordered["label"].to_numpy() == ordered["predicted"].to_numpy()
        found[arm, seed] = hits.tolist()
    return found


def last_doubling(records: pd.DataFrame, arm: str) -> list[float]:
    """Return the gain of the last step of an arm's learning curve, one a seed.

    Args:
        records: With the task ``learning_curve``.
        arm: Any.
    """
    rows = values_of(records, "learning_curve", "accuracy")
    gains = []
    for _, mine in rows[rows["arm"] == arm].groupby("seed"):
        values = mine.sort_values("step")["value"].tolist()
        if len(values) > 1:
            gains.append(values[-1] - values[-2])
    return gains


def cost_means(costs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return arm to cost to its mean over seeds.

    Args:
        costs: Of all arms.
    """
    wide = costs.pivot_table(index="arm", columns="metric", values="value", sort=False)
    return {
        str(arm): {str(name): float(v) for name, v in row.dropna().items()}
        for arm, row in wide.iterrows()
    }


def with_tuning(costs: pd.DataFrame, selection: pd.DataFrame) -> pd.DataFrame:
    """Return the costs with the seconds that the choice of settings took, for each trained arm.

    Args:
        costs: Of all arms.
        selection: Settings tried.
    """
    import pandas as pd

    rows = []
    for arm, tried in selection.groupby("arm", sort=False):
        mine = costs[(costs["arm"] == arm) & (costs["metric"] == "train_seconds")]
        rows += [
            {**row, "metric": "tuning_seconds", "value": float(tried["seconds"].sum())}
            for row in mine.to_dict("records")
        ]
    return pd.concat([costs, pd.DataFrame(rows, columns=costs.columns)]) if rows else costs


def width_laws(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each random body how its kernel's error falls with width; slope -0.5 is predicted.

    Args:
        records: With the task ``width_law``.
    """
    from relearn.methods.last_layer_probe.width_law import slope_of

    rows = values_of(records, "width_law", "rms").copy()
    bound = values_of(records, "width_law", "theorem_over_used")
    rows["body"] = rows["arm"].str.replace(r"^random_(.+)_\d+$", r"\1", regex=True)
    found = []
    for body, mine in rows.groupby("body", sort=False):
        means = mine.groupby("step")["value"].mean()
        if len(means) < 2:
            continue
        widths = [float(width) for width in means.index]
        own = bound[bound["arm"].isin(set(mine["arm"]))]["value"]
        found.append(
            {
                "body": str(body),
                "slope": slope_of(widths, means.tolist()),
                "rms_times_sqrt_width": float((means * means.index.to_numpy() ** 0.5).mean()),
                "narrowest": int(widths[0]),
                "widest": int(widths[-1]),
                "theorem_over_used": float(own.mean()),
            }
        )
    return found


def rank_correlations(records: pd.DataFrame) -> dict[str, Any]:
    """Return for each hint its Spearman correlation with the test accuracy.

    Over arms where four or more have the hint; over seeds where one arm alone has it (LEEP and NCE
    need the classifier that the base net was trained with). The body of noise is left out, which
    any score finds.

    Args:
        records: With the task ``hint``.

    Returns:
        Hint to over (``arms`` or ``seeds``), pairs (their number) and rank_correlation (None where
        one side is the same for all).
    """
    accuracy = final_by_seed(records, "test", "accuracy")
    found: dict[str, Any] = {}
    for metric in dict.fromkeys(records.loc[records["task"] == "hint", "metric"]):
        told = final_by_seed(records, "hint", str(metric))
        arms = [arm for arm in told if arm in accuracy and arm != NOISE]
        over = "seeds" if len(arms) == 1 else "arms"
        if over == "seeds":
            pairs = [(told[arms[0]][seed], accuracy[arms[0]][seed]) for seed in told[arms[0]]]
        else:
            pairs = [(fmean(told[arm].values()), fmean(accuracy[arm].values())) for arm in arms]
        if len(pairs) >= _FEWEST_PAIRS:
            ranked = _spearman(pairs)
            found[str(metric)] = {"over": over, "pairs": len(pairs), "rank_correlation": ranked}
    return found


def _spearman(pairs: list[tuple[float, float]]) -> float | None:
    from scipy.stats import spearmanr

    left, right = zip(*pairs, strict=True)
    if len(set(left)) < 2 or len(set(right)) < 2:
        return None
    return float(spearmanr(left, right).statistic)


def sensitivity_table(records: pd.DataFrame) -> list[dict[str, Any]]:
    """Return one row an arm: accuracy as it is, and what each disturbance takes from it.

    Args:
        records: With the task ``sensitivity``.
    """
    plain = means_of(records, "test", "accuracy")
    rows = records[records["task"] == "sensitivity"]
    wide = rows.pivot_table(index="arm", columns="metric", values="value", sort=False)
    return [
        {"arm": str(arm), "accuracy": plain[str(arm)]}
        | {f"{name} costs": plain[str(arm)] - float(value) for name, value in row.items()}
        for arm, row in wide.iterrows()
    ]
