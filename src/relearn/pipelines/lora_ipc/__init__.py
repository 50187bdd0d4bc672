"""Tasks one after the other with low-rank modules: every arm, its tables, proof and figures."""

from relearn.pipelines.lora_ipc.pipeline import create_pipeline

__all__ = ["create_pipeline"]
