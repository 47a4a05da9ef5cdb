"""nnU-Net trainers of our own; one class a file."""
