"""The streaming engine: the arithmetic of nnU-Net's sliding window, in the memory of one slab."""
