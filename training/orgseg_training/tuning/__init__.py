"""Fine-tuning of a bundle on a site's own contours, and the bundle that comes out of it."""
