"""The net as it leaves the house: pixels in, class probabilities out."""

from relearn.models.inference import ClassProbabilities, inference_module

__all__ = ["ClassProbabilities", "inference_module"]
