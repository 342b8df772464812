"""Encoders: NeRFs to embeddings and tokens, one folder a kind; the decoder back; encoders frozen inside larger models."""
