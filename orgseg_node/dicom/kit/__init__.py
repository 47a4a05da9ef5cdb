"""A phantom and structure sets with known volumes, to find out in one import what a planning system does."""
