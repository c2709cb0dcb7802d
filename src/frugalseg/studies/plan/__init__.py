"""The plan of a study: reading and checking."""
