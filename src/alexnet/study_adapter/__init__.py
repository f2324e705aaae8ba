"""Optional: reports on run directories. Makes the table that alexnet.study reads, and adds what only runs have."""
