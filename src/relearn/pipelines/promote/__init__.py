"""From a trained unit to the model registry: register, make champion, roll back."""

from relearn.pipelines.promote.pipeline import create_pipeline

__all__ = ["create_pipeline"]
