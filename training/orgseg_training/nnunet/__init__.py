"""nnU-Net's planning and training as child processes, and our trainers."""
