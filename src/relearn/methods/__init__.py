"""Floor 3: the methods, pure torch, strangers to each other."""
