"""The encoder's benchmarks: retrieval, classification, pictures of the embedding space."""
