"""Zapping: choose settings, train the arms, check the ledger, draw, recommend."""

from relearn.pipelines.zap.pipeline import create_pipeline

__all__ = ["create_pipeline"]
