"""Models put together: of a backbone, an encoder and a projector, and small and tiny ones from nothing."""
