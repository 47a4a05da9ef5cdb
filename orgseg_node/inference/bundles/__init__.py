"""Model bundles: reading, importing and writing them; no torch."""
