"""Tokens guessed ahead, and verified in one pass."""
