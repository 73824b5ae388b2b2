"""Adapters: small additions to a model's weights that stay apart from them, by the names of modules."""
