"""Who may log in to the pages, with which roles, and what each role may do."""
