"""Floor 2: what is measured, and the rows in which it is written down."""
