"""Scores of predictions against ground truth, on the host."""
