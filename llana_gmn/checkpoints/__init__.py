"""A model on disk: its files and what they must hold, encoders and bases beside it, opening, merging, where answers came from."""
