"""From queued jobs to finished ones."""
