"""Experiments: the two strategies of the study in steps that read files, write files and can be repeated."""
