"""Floor 1: plain nets, their last layer, and checkpoints."""
