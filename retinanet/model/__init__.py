"""The network of the paper (section 4): backbone, feature pyramid, subnets, anchors; detections from its outputs."""
