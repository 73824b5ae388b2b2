"""Rules that judge a document by its shape: published heuristics, with the published thresholds."""
