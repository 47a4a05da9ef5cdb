"""Reading DICOM files: as a checked CT series, and as a volume in Hounsfield units."""
