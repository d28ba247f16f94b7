"""What a data set holds: faults that would spoil a run, and how well the anchors cover its objects."""
