"""From accepted images to judged series."""
