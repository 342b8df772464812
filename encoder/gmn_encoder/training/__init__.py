"""Training: what every model's training needs, and a folder for each kind of model."""
