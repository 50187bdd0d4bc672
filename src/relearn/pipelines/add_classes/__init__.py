"""Adding classes: more outputs for a trained checkpoint, and a check of the old ones."""

from relearn.pipelines.add_classes.pipeline import create_pipeline

__all__ = ["create_pipeline"]
