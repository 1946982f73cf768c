"""Readers of labels in the formats of COCO, Pascal VOC and YOLO."""
