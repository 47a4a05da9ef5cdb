"""What the configuration file says: one module for each section."""
