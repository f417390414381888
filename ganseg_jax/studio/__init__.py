"""A local page for a model: samples to pull at, photos, names of parts, training, labelling."""
