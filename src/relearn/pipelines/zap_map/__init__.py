"""When does zapping pay: a small map over classes, images a class and similarity."""

from relearn.pipelines.zap_map.pipeline import create_pipeline

__all__ = ["create_pipeline"]
