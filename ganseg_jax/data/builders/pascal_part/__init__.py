"""Cars and horses of PASCAL VOC 2010 with parts (PASCAL-Part)."""
