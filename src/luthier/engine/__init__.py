"""Batches, one step, optimisers, schedules, precision: what training, planning and scoring share."""
