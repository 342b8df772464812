"""Training of the language model: recipes, stages, the plan that is shown before, and transformers' Trainer around them."""
