"""Tests of the reading of CT with RTSTRUCT."""
