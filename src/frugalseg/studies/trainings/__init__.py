"""The trainings of a study's models: one class each, and their table."""
