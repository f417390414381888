"""Birds (CUB-200-2011) with foreground masks and 15 parts."""
