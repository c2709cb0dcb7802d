"""Grids of methods, backbones, label budgets and seeds, run to the end and reported."""
