"""What is shown of a case: its images, the contours as they were delivered, organs and findings."""
