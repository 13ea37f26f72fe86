"""Predictions on pictures: NumPy and Pillow alone."""
