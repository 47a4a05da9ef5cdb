"""What a CT shows: which part of the body, in which position, and by which kind of scan."""
