"""Backup of a node, and change of its configuration while it runs."""
