"""frugalseg: medical image segmentation from very few annotations."""
