"""Studies: grids of methods, backbones, label budgets, draws and seeds, and their report."""
