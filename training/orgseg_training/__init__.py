"""Training, evaluation and export of models with the very reader and body contour the node uses."""
