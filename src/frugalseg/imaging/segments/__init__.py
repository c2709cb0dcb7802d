"""Masks as a hospital stores them: DICOM SEG and RTSTRUCT, read onto the grid of a scan and written for a series."""
