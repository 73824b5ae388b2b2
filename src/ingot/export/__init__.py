"""Doors out: a model folder as one file for llama.cpp, as a graph for other runtimes, and on a hub."""
