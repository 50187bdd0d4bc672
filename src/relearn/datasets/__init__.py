"""Floor 4: Kedro datasets for image tensors, checkpoints and tables, written atomically."""
