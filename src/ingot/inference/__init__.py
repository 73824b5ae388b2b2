"""Inference: cache, sampling and text of many requests at once, driven by one engine."""
