"""Models that leave: programs, official files, other libraries' folders."""
