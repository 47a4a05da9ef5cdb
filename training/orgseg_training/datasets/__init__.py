"""Data sets, read into scans with three states per organ: drawn, not drawn, outside the scan."""
