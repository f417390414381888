"""Tai chi videos with 18 landmarks and foreground masks."""
