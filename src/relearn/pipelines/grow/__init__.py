"""Growing: teachers, plan and gate, settings, arms, ledger, figures, recommendation."""

from relearn.pipelines.grow.pipeline import create_pipeline

__all__ = ["create_pipeline"]
