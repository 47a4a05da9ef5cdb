"""Pure geometry, volumes, contours, body and metrics: no DICOM, no torch, no sockets, no clock."""
