"""The losses of the paper (sections 3, 4 and 4.1): anchor matching, classification losses and the loss of a batch."""
