"""Exploring larger designs by growth: accuracy against latency, weights used again."""

from relearn.pipelines.grow_explore.pipeline import create_pipeline

__all__ = ["create_pipeline"]
