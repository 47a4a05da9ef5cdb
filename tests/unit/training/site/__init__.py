"""Tests of a site's data set."""
