"""Last-layer probe: what frozen or random features and a convex head already solve."""
