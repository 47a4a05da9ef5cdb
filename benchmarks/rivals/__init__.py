"""Other programs and our engine on the same CT with the same weights."""
