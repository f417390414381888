"""Small sets with parts or masks that come as archives of images and label maps."""
