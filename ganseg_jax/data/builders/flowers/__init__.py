"""Flowers (Oxford 102) with foreground masks."""
