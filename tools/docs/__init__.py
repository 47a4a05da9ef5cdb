"""What makes documents from the code; not part of the installed package."""
