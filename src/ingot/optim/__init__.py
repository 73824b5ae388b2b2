"""Optimizers that PyTorch lacks, which parameter gets which, and learning-rate schedules."""
