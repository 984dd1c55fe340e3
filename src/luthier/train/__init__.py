"""Stage 4: one loop, validation, checkpoints, exact resume."""
