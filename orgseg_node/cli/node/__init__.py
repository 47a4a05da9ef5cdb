"""Commands for a running node."""
