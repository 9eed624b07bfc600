"""Network Fusion for content creation with conditional INNs (AI for Content Creation workshop, CVPR 2020)."""
