"""Model bundles and the predictors that run them."""
