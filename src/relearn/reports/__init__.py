"""Floor 4: comparison, decision, figures and the page; no torch."""
