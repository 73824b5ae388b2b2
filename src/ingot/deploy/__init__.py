"""Packaging: what other programs need to run, scale and watch a served model, as files to read and keep."""
