"""A clinic's way from its archive to a live model, on public and on synthetic patients."""
