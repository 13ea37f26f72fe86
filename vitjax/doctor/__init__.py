"""What in a data folder would hurt training."""
