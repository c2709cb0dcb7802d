"""Simulated CT scans of the abdomen with labels, for the demo, the documentation and the tests."""
