"""Embeddings of NeRF files: made, kept, read back and compared."""
