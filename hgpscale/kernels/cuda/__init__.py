"""Kernels for a GPU: the same bits as those of `hgpscale.kernels`, behind the same signatures.

On a core one sweep remembers what it has passed; here each voxel has a thread of its own that looks around itself,
and counters are added to atomically. Integers come out the same in whatever order they are added. Each of these has
a form for a stack of images of one region, so that all of them take one launch per kernel.

Filters and resampling give each line or sample a thread, which adds up in the CPU kernel's order; every product is
rounded on its own (`jit.product`). Needs numba's CUDA target.
"""
