"""Floor 5: what a run leaves on disk, and the names of published weights."""
