"""Face photos of CelebA-HQ with part masks (CelebAMask-HQ)."""
