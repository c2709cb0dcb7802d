"""How a study's models are trained: one class a training, and their table."""
