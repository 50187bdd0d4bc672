"""Floor 5: Kedro wiring. Pipelines never import each other."""
