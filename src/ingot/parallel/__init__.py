"""Several processes training one model: who they are, how the model is spread over them, what they save."""
