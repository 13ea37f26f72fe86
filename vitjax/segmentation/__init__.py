"""Floor 4: masks of detected objects, and a class for every pixel."""
