"""Surgery on models: a model made of another one's weights, before it is trained on."""
