"""What ships inside the package, a model and NeRFs that it was not trained on: where they are and how they were put together."""
