"""What several systems are made of: graphs of flows, autoencoders, generators, and their authors' key names."""
