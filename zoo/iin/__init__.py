"""A disentangling invertible interpretation network for explaining latent representations (arXiv 2004.13166)."""
