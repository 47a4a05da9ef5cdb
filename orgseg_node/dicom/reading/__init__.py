"""DICOM files of a CT as a checked series and a volume."""
