"""PartImageNet: animals and things of ImageNet with 40 parts."""
