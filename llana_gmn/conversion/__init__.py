"""Checkpoints of other projects into our layout, and back."""
