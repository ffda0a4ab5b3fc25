"""Measurements of this package beside what a researcher would use instead: see README.md here."""
