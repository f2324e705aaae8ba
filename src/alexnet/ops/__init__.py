"""Optional compiled operations."""
