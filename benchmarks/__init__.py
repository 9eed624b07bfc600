"""Flowkit beside other libraries (`python -m benchmarks.figures`), and how its cost grows (`benchmarks.growth`)."""
