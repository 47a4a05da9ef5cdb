"""How fast the pages are, and what they cost the node."""
