"""Scores of networks, statistics, tables and plots."""
