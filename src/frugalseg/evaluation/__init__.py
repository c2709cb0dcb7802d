"""Masks against references: metrics in mm, intervals over patients, and a report a reviewer can read."""
