"""Training of the encoder: pairs, teacher rays, the trainer with exact resume, recipes."""
