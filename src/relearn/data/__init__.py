"""Floor 1: bytes to tensors. Sources, splits, the stream, batches and augmentation."""
