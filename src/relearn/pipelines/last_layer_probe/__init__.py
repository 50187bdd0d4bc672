"""The pipeline ``last_layer_probe``: what do fixed features and a convex head earn?"""

from relearn.pipelines.last_layer_probe.pipeline import create_pipeline

__all__ = ["create_pipeline"]
