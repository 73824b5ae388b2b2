"""Kernels in C++, for what PyTorch does slowly on CPUs; every one of them can be done without."""
