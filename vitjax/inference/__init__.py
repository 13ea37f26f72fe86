"""From a checkpoint and a picture to boxes, pictures of boxes, and explanations."""
