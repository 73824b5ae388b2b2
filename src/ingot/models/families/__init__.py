"""Families: published architectures as presets and maps of names."""
