"""Models to take away: files for programs that know nothing of this package."""
