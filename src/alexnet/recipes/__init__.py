"""Optional parts that reproduce one published training exactly."""
