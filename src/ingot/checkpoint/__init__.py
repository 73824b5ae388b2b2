"""Checkpoints: what a training run needs to go on as if nothing had happened."""
