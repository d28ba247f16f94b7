"""The losses of the paper (sections 3, 4 and 4.1): matching of anchors, focal loss and its rivals, and their sum over a batch."""
