"""The parts that models are composed of: norms, positions, attention, feed-forward, initialisation."""
