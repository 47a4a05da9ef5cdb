"""Backup and reload."""
