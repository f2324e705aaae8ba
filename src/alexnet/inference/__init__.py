"""Optional: evaluation, prediction and export of a trained network, from its run directory or checkpoint alone."""
