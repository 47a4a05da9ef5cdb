"""The papers that a hospital needs to approve the node, from what the node knows."""
