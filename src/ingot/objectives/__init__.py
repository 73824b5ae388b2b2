"""Objectives: equations over a model's outputs and a batch, one file per kind of loss."""
