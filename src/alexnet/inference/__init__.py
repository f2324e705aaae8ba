"""A wing: what is done with a trained network, from its run's folder or checkpoint alone. Training needs none of it."""
