"""Benchmark of every operator beside plain torch, torch.compile and a copy of the same bytes (`python -m flowkit bench`)."""
