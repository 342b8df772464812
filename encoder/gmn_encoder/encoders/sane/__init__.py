"""SANE over NeRFs: a transformer autoencoder of token sequences, with a pooled embedding and a head for rotations."""
