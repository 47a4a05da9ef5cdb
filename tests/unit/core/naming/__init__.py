"""Tests of the dictionary of names."""
