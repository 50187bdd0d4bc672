"""Try five published ways of re-using and re-training a neural network on your own images."""

__version__ = "0.1.0"
