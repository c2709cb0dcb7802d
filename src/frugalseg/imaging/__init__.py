"""Scans: reading, writing, orientation, intensity scaling, and square slices for networks."""
