"""The pages for people: what the node does, cases with their delivered contours, review, models."""
