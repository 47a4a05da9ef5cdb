"""The pages of a node without the node: for tests that need no network."""
