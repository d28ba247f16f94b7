"""Detection in images with a PyTorch or exported model."""
