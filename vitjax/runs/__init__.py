"""What a run is: its experiment, its folder, and the weights it begins with."""
