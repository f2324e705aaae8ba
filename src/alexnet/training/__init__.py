"""A training run: building its parts, training, logging, checkpoints and resuming."""
