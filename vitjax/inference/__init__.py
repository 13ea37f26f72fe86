"""From a model and images to what is on them: as a Python call, as files, and as a page of pictures."""
