"""CT with RTSTRUCT in folders of DICOM: a clinic's archive, and public data sets in this layout."""
