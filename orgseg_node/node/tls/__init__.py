"""TLS of DICOM and HTTP connections."""
