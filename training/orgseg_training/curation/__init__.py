"""Review of the scans before training: measurements, checks, pictures, copies, and the signed reject list."""
