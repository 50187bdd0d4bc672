"""From the stream to the base checkpoint that every method starts from."""

from relearn.pipelines.pretrain.pipeline import create_pipeline

__all__ = ["create_pipeline"]
