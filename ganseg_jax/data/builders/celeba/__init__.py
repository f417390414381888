"""CelebA, in the wild and aligned, with the landmarks and splits of MAFL."""
