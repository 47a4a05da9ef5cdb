"""Pure computation: geometry, volumes, contours, body and metrics; no DICOM, torch, sockets or time."""
