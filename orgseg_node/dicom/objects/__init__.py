"""DICOM objects that are written and read back: RTSTRUCT, SEG, SR, PDF."""
