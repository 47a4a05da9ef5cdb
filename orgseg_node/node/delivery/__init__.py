"""Objects on their way to their destinations."""
