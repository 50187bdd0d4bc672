"""The file of a study, what it is a study of, and its choices in the sampler's words."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

    from relearn.methods.forget_relearn.search_config import ForgetRelearnSearchConfig
    from relearn.methods.forget_relearn.search_space import SearchSpace
    from relearn.pipelines.forget_relearn.units import TrainingJob

_SEEDS = 2**32  # numpy takes no larger ones


def open_study(path: Path, *, prune: bool) -> optuna.Study:
    """Return the study of a file, which is made where there is none.

    Args:
        path: File of JSON lines.
        prune: Whether settings below the median of the others stop early.
    """
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=2) if prune else None
    return optuna.create_study(
        study_name="forget_relearn_search",
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(path))),
        direction="maximize",
        pruner=pruner or optuna.pruners.NopPruner(),
        load_if_exists=True,
    )


def make_sampler(seed: int, *, random_trials: int) -> optuna.samplers.BaseSampler:
    """Return a tree-structured Parzen estimator that keeps away from what is being tried.

    Args:
        seed: Of its draws, any size.
        random_trials: First trials that are drawn evenly.

    References:
        Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011, section 4.
    """
    import optuna

    with warnings.catch_warnings():
        # keeping away (constant_liar) is announced as liable to change: the version is locked
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(
            seed=seed % _SEEDS, n_startup_trials=random_trials, constant_liar=True
        )


def distributions(space: SearchSpace) -> dict[str, Any]:
    """Return the space in the sampler's words.

    Args:
        space: What may be chosen.
    """
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    return {
        "layers": CategoricalDistribution(space.layers),
        "fraction": FloatDistribution(*space.fraction, log=True),
        "relearn_epochs": IntDistribution(*space.relearn_epochs),
        "warmup_epochs": IntDistribution(*space.warmup_epochs),
        "trigger": CategoricalDistribution(space.trigger),
    }


def study_digest(first: TrainingJob, search: ForgetRelearnSearchConfig, space: SearchSpace) -> str:
    """Return the digest of what a study is a study of; a larger budget goes on with the same one.

    Args:
        first: Data, code, and the knobs that are not searched.
        search: Choices and sampler.
        space: Holds the present setting.
    """
    from relearn.methods.forget_relearn.search_space import SEARCHED, with_choice
    from relearn.pipelines.forget_relearn_search.trial_unit import trial_unit
    from relearn.provenance import digest

    job = replace(
        first, config=with_choice(first.config, space.present), training=SEARCHED, label="study"
    )
    told = {
        "address": dict(trial_unit(job).address),
        "search": search.model_dump(exclude={"trials", "seconds"}),
    }
    return digest(told)
