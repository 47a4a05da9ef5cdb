"""What a person changes in a result that waits for a review."""
