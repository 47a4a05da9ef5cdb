"""What the watching of returned contours finds, and when; and its measures beside independent programs."""
