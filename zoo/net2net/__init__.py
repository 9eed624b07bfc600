"""Network-to-network translation with conditional INNs (arXiv 2005.13580)."""
