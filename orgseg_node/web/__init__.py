"""What the node offers by HTTP; it looks into the node's rooms, and none of them knows it."""
