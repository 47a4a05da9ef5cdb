"""Who looks at the scans before anything is trained on them: checks, pictures, copies, and signed rejects."""
