"""The network of the paper (section 4): backbone, feature pyramid, subnets and anchors, and its postprocessing."""
