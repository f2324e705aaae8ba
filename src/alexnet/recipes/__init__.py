"""Optional parts that reproduce one published training to the letter."""
