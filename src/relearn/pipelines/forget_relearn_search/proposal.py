"""What the study proposes: to be read and confirmed by a person, applied by nobody else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna
    import pandas as pd

    from relearn.methods.forget_relearn.config import ForgetRelearnConfig
    from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig
    from relearn.methods.forget_relearn.search_space import SearchSpace

WARNING = (
    "A proposal, not applied: the best of many trials looks better than it is. Confirm it on fresh "
    "seeds before it is used: put the block into the parameters, run `kedro run --pipeline "
    "forget_relearn`, and read the paired difference on the test images."
)


def propose(
    trials: pd.DataFrame,
    config: ForgetRelearnConfig,
    search: ForgetRelearnSearchConfig,
    space: SearchSpace,
) -> dict[str, Any]:
    """Return the best setting beside the present one, and how much the choices matter.

    Args:
        trials: As from ``study.search_table``.
        config: The present setting.
        search: Budget of the study.
        space: What could be chosen.

    Returns:
        ``applied`` (always false), ``warning``, ``keeps_present``, ``proposed`` and ``present``
        (choice, score, scores of single seeds), ``gain``, ``yaml`` (a block to paste), ``trials``,
        ``states``, ``seconds``, ``budget``, ``stopped_by``, ``importance`` (name to share).
    """
    rows: list[dict[Any, Any]] = trials.to_dict("records")
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: float(row["score"]))  # the first of equals
    present = next(row for row in rows if row["present"])
    return {
        "applied": False,
        "warning": WARNING,
        "keeps_present": bool(best["present"]),
        "proposed": _told(best),
        "present": _told(present),
        "gain": float(best["score"] - present["score"]),
        "yaml": _block(best, config),
        "trials": len(rows),
        "states": dict(Counter(str(row["state"]) for row in rows)),
        "seconds": float(sum(row["seconds"] for row in rows)),
        "budget": {"trials": search.trials, "seconds": search.seconds},
        "stopped_by": "trials" if len(rows) >= search.trials else "seconds",
        "importance": importance_of(complete, space, seed=search.seed),
    }


def importance_of(
    complete: Sequence[Mapping[Any, Any]], space: SearchSpace, *, seed: int
) -> dict[str, float]:
    """Return the share of the scores' variance that each choice explains, largest first (fANOVA).

    Empty where too few settings were scored, or all scores are the same.

    Args:
        complete: Rows of complete trials.
        space: What could be chosen.
        seed: Of the forest that is fitted.
    """
    import optuna

    from relearn.methods.forget_relearn.search_space import CHOICES

    if len({row["score"] for row in complete}) < 2:
        return {}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize")
    study.add_trials([_frozen(row, space) for row in complete])
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=seed)
    varied = [name for name in CHOICES if len({row[name] for row in complete}) > 1]
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=varied)
    return {name: float(share) for name, share in found.items()}


def _frozen(row: Mapping[Any, Any], space: SearchSpace) -> optuna.trial.FrozenTrial:
    import optuna

    from relearn.pipelines.forget_relearn_search.study_file import distributions

    choice = _choice(row)
    low, high = space.fraction
    choice["fraction"] = min(high, max(low, choice["fraction"]))  # rounding may step outside
    return optuna.trial.create_trial(
        params=choice, distributions=distributions(space), value=float(row["score"])
    )


def _choice(row: Mapping[Any, Any]) -> dict[str, Any]:
    return {
        "layers": str(row["layers"]),
        "fraction": float(row["fraction"]),
        "relearn_epochs": int(row["relearn_epochs"]),
        "warmup_epochs": int(row["warmup_epochs"]),
        "trigger": str(row["trigger"]),
    }


def _told(row: Mapping[Any, Any]) -> dict[str, Any]:
    scores = [float(text) for text in str(row["scores"]).split()]
    return {
        "trial": int(row["number"]),
        **_choice(row),
        "score": float(row["score"]),
        "scores": scores,
    }


def _block(row: Mapping[Any, Any], config: ForgetRelearnConfig) -> str:
    """Return the setting as YAML that stands under the root of the parameters."""
    import yaml

    from relearn.methods.forget_relearn.search_space import block_of

    block = {"forget_relearn": block_of(config, _choice(row))}
    return str(yaml.safe_dump(block, sort_keys=False))
