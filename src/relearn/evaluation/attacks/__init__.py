"""Attacks that measure robustness: all in fp32, on the net in evaluation mode, for any ball."""
