"""Training of encoders: pairs, teacher rays, losses, the trainer with exact resume, recipes."""
