"""The captioning benchmark: tasks, runs, metrics, tables."""
