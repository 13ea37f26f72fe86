"""The data wing: NumPy on the host, from files to batches."""
