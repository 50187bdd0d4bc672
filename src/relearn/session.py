"""One ``kedro run``: whatever goes wrong ends in one line, and an interrupt ends the run KILLED.

Kedro tells its hooks of errors inside nodes only; faults before the first node and interrupts are
seen here.
"""

from __future__ import annotations

from typing import Any

import click
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession

from relearn.errors import one_of
from relearn.hooks import RunHooks


class RelearnSession(KedroSession):
    """Kedro's session, with faults in one line."""

    def run(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run the pipelines that are asked for; see ``KedroSession.run``.

        Raises:
            click.ClickException: One line that names the parameter or file and the remedy.
        """
        _refuse_processes(kwargs.get("runner"))
        _refuse_unknown(kwargs.get("pipeline_names") or [])
        try:
            return super().run(*args, **kwargs)
        except click.ClickException:
            raise
        except Exception as error:
            raise self._own_hook().fault(error) from error
        except BaseException:
            self._own_hook().stop()
            raise

    def _own_hook(self) -> RunHooks:
        return next(p for p in self._hook_manager.get_plugins() if isinstance(p, RunHooks))


def _refuse_unknown(names: list[str]) -> None:
    for name in names:
        if name not in pipelines:
            raise click.ClickException(str(one_of("--pipeline", name, pipelines.keys())))


def _refuse_processes(runner: Any) -> None:
    """Refuse Kedro's ParallelRunner, which runs nodes without hooks, and so without tracking."""
    from kedro.runner import ParallelRunner

    if isinstance(runner, ParallelRunner):
        raise click.ClickException(
            "--runner: ParallelRunner runs nodes without their hooks; leave --runner out and set "
            "--params execution.workers=<n> to spread the units over processes"
        )
