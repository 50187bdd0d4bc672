"""Forgetting and relearning: forecast, settings, trainings, judgement, ledger, recommendation."""

from relearn.pipelines.forget_relearn.pipeline import create_pipeline

__all__ = ["create_pipeline"]
