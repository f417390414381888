"""Birds (NABirds) with 11 landmarks and bounding boxes."""
