"""The pages of the node itself: its configuration, rules, health, versions and history."""
