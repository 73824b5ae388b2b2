"""Measurements that users run: `ingot bench ...`."""
