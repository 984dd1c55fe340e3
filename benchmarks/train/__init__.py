"""The two sides of the training benchmark, and what they share."""
