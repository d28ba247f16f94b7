"""The 12 COCO numbers of a detector, and why it errs."""
