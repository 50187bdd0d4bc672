"""Operating a model that has learnt tasks: add one, roll back, leave one out, merge, export."""

from relearn.pipelines.lora_ipc_operate.pipeline import create_pipeline

__all__ = ["create_pipeline"]
