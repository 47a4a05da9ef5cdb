"""Which rule fits a series, and what follows."""
