"""What makes masks of test scans without training: one class a mask maker, and their table."""
