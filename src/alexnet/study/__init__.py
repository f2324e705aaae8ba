"""Optional: comparisons of runs, with intervals, and their reports."""
