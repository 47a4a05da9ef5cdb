"""The tables of a manifest."""
