"""Stage 7: what was asked of a served run, beside what its evaluation led one to expect."""
