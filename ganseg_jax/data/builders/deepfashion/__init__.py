"""DeepFashion in-shop photos, with clothing labels or with body landmarks."""
