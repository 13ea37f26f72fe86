"""Floor 2: the attention modules, one file each."""
