"""Data sets of conversations about NeRFs."""
