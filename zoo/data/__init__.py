"""Data sets of the zoo: thin adapters that give images in [-1, 1] with a fixed split."""
