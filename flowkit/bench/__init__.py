"""Times every operator beside plain torch, torch.compile and a copy of as many bytes: `python -m flowkit bench`."""
