"""What planning systems expect of structure sets."""
