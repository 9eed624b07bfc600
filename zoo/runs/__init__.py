"""What the runs on real pictures share: a small autoencoder, its training, the flow's training, the data."""
