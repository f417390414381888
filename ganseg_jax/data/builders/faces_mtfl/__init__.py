"""Faces in the wild with five landmarks (MTFL)."""
