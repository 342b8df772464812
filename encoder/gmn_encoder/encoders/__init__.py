"""Encoders: NeRFs to embeddings. One folder a kind."""
