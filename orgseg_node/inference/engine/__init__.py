"""The streaming engine: nnU-Net's own labels, slab by slab along the first axis of the network's grid."""
