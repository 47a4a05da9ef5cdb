"""DICOM associations, in and out; the only package that imports pynetdicom."""
