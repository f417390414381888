"""Colours, overlays, sheets of images and the report page; all of it plain numpy and PIL."""
