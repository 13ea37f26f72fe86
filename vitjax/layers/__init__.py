"""Floor 2: the other small modules."""
