"""A site's data set for retraining: from the clinic's archive to locked training and test cases."""
