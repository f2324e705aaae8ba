"""Optional callbacks that look at what happens inside a network while it trains."""
