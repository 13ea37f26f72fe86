"""Files that other people's code writes and reads."""
