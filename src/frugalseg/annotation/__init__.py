"""Annotation in the browser: a local server, its state, and the jobs that it starts."""
