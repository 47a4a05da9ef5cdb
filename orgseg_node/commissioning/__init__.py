"""Commissioning with the patients of a hospital: what the node delivers, against clinical contours."""
