"""Net2Net."""
