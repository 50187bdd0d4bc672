"""From the bytes of a source to the frozen stream that every arm of every method reads."""

from relearn.pipelines.prepare_data.pipeline import create_pipeline

__all__ = ["create_pipeline"]
