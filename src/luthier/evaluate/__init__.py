"""Stage 5: every variant and every baseline on the same held-out rows, compared, and told to people."""
