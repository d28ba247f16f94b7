"""Analysis of a data set: faults that would spoil a training run, and how well the anchors cover its objects."""
