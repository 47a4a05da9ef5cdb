"""Control charts: whether a series of measured values still comes from the process that set the limits."""
