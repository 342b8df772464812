"""The model: its configuration, its parts, the processor that reads NeRFs and text for it, and its ways to and from a hub."""
