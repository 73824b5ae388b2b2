"""How a pass is computed: pages of keys and values, kernels, adapters."""
