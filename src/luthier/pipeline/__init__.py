"""The stages in their order, the run folder they fill, and the index of runs."""
