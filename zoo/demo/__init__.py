"""The demo: Net2Net in small. What a classifier knows about a digit is translated into an autoencoder's latent."""
