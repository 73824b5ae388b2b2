"""What a model is aligned to: rewards for its answers, rollouts that it makes, advantages from both."""
