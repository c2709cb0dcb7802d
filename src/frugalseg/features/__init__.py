"""Features of frozen image encoders: computed once for each slice, cached, and decoded to masks by a light decoder."""
