"""Analysis of a data set: errors, and coverage of its objects by the anchors."""
