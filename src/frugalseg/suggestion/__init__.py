"""Which scans and slices to outline next."""
