"""Promptable models: refining masks by boxes, and carrying an annotated slice through a volume."""
