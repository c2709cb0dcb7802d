"""Training sets: targets, the slice store, patient-level splits, label budgets, and batches on the device."""
