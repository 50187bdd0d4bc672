"""From the records of the methods to comparison, decision and report."""

from relearn.pipelines.compare.pipeline import create_pipeline

__all__ = ["create_pipeline"]
