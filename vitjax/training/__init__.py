"""From an experiment to a trained checkpoint and a report."""
