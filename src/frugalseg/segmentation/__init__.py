"""Segmentation: fine-tuning from few labels, prediction on whole volumes, post-processing."""
