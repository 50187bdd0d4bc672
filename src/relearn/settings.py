"""Project settings that Kedro reads at start: configuration loader, hooks, session."""

from __future__ import annotations

import os
import warnings

from relearn.hooks import RunHooks
from relearn.session import RelearnSession


def _environment_or(name: str, default: str) -> str:
    """Return the environment variable ``name``, or ``default`` where it is unset or empty."""
    return os.environ.get(name) or default


# Kedro calls a function that OmegaConf 2.4 renames; and `--pipeline` does what `--pipelines` does.
warnings.filterwarnings("ignore", message="register_new_resolver", category=UserWarning)
warnings.filterwarnings("ignore", message="Option '--pipeline' is deprecated")

HOOKS = (RunHooks(),)

# Kedro compares the exact name of a distribution, and kedro-mlflow bears both spellings. Were it
# installed beside our own hook, every run would be tracked twice.
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-mlflow", "kedro_mlflow")

SESSION_CLASS = RelearnSession

CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "base",  # nothing necessary may live in conf/local
    "merge_strategy": {"parameters": "soft", "globals": "soft"},
    "custom_resolvers": {"env": _environment_or},
}
