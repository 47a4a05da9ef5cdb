"""DICOM objects that the node writes and verifies: RTSTRUCT, SEG, SR, PDF; storage commitment."""
