"""A folder of masks: pairing with scans, writing in the scan's grid, provenance, connected components."""
