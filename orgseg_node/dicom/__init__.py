"""DICOM datasets in and out: no sockets, no torch."""
