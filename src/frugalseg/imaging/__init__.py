"""A scan: reading, writing, orientation, intensity scaling, and the square slices that networks see."""
