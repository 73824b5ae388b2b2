"""Models: architectures composed of `nn`, and their doors to the ecosystem."""
