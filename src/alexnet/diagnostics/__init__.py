"""Optional callbacks that log what happens inside a network while it trains."""
