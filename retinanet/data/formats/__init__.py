"""Readers of COCO, Pascal VOC and YOLO data sets."""
