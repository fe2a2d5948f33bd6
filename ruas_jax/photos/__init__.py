"""Photographs: reading, enhancing and writing image files; models and their weights."""
