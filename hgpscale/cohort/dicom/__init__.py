"""DICOM: series as images; segmentations (SEG) and structure sets (RTSTRUCT) as masks.

pydicom is imported inside of functions here: a cohort without DICOM files never waits for it.
"""
