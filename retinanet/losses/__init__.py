"""The losses of the paper (sections 3 and 4.1): focal loss, its rivals, the matching of anchors, and their sum over a batch."""
