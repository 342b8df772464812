"""Rendering: any field, seen by any camera.

* `cameras`: `Cameras`, `Rays`, the default view, turntable and sphere; `camera_files`: transforms.json in and out
* `occupancy`: `OccupancyGrid`, `grid.pth` in and out, grids from a density
* `marching`: rays and a grid to packed `Samples`
* `compositing`: densities and colours of samples to a `Rendering` of rays
* `render`: the three together for a callback field; `images`: pictures of the result
* `surface`: coloured points on an object's surface, and their files

Everything is plain torch on any device; on CUDA `marching_kernel` and `compositing_kernel` are its Triton twins.
"""
