"""A study's plan: reading and checking."""
