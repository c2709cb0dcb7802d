"""The mask makers of a study, which make masks of test scans without training: one class each, and their table."""
