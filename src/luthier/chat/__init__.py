"""From a record to token ids and labels, the same at training, evaluation and serving."""
