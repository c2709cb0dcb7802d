"""What this installation can do, and what is broken in it."""
