"""The compiled feature space: one form serves checker, penalty and projection."""
