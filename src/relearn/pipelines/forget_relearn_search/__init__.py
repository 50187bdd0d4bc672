"""The automatic choice: which settings of forgetting to propose, within a budget."""

from relearn.pipelines.forget_relearn_search.pipeline import create_pipeline

__all__ = ["create_pipeline"]
