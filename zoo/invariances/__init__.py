"""What a representation does not contain: its invariances, recovered by conditional INNs (arXiv 2008.01777)."""
