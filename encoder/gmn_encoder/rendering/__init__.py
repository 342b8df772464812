"""Rendering: cameras, occupancy grids, ray marching, compositing. Any field renders through the same code."""
