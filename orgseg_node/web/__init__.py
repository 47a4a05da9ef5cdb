"""What the node offers by HTTP. It imports packages of the node, and none of them imports it."""
