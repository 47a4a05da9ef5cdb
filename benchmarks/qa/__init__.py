"""What the clinical checks find and what they flag in vain, measured on clinical contours."""
