"""The 12 COCO metrics of a detector, and an analysis of its errors."""
