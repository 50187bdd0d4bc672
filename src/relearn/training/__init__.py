"""Floor 2: one readable training loop and what it needs."""
