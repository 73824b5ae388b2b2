"""Data: from files to batches. Read sources, clean, dedup, holdout, corpus, shards, stream."""
