"""Several continuations of one prompt, of which the best is wanted."""
