"""People in street photos with clothing labels (Clothing Co-Parsing)."""
