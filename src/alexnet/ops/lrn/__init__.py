"""Local response normalisation in C, for the CPU."""
