"""orgseg_node: planning CT in by DICOM, unreviewed organ-at-risk contours out by DICOM."""

__version__ = "0.1.0"
