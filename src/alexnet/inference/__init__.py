"""Optional: evaluates, predicts with and exports a trained network, from its run directory or checkpoint alone."""
