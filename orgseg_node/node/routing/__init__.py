"""Which routing rule applies to a series, and what follows from it."""
