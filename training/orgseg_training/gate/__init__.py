"""The gate: whether a candidate may replace the live model, by paired results on the patients of a site."""
