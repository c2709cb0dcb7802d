"""Masks refined by box prompts."""
