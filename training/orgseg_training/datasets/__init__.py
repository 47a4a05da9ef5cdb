"""Public datasets, read into cases with three states per organ: drawn, not drawn, outside the scan."""
