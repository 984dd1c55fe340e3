"""Stage 1: from files of rows to token shards, with every row accounted for."""
