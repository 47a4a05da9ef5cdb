"""What the node keeps in its database: series, jobs, deliveries and their states."""
