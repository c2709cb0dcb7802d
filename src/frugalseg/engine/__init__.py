"""Training: devices, run folders, checkpoints, the loop, its progress and its logs."""
