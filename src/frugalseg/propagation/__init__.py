"""Annotated slices propagated through a volume, with a confidence for each slice."""
