"""The demo: the main job on what ships, or on what a user brings."""
