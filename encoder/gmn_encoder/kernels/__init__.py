"""The two heavy operations of the dense encoder: plain torch as the specification, fused Triton kernels on CUDA.

`edge_update` and `readout_sum` choose by the device of their input. Importing this package builds nothing and needs no Triton.
"""

from .reference import edge_update, readout_sum

__all__ = ["edge_update", "readout_sum"]
