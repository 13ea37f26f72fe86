"""Families of models: what each is trained with, what its published files look like, and how they are read."""
