"""Measures of masks, landmarks and images, and the published protocols built on them."""
