"""Planning and training with nnU-Net in child processes, and our own trainers."""
