"""TensorBoard's panels, beside the curves of a run."""
