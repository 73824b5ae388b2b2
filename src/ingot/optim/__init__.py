"""Optimizers, one file each; which parameter gets which, and how fast it learns; schedules."""
