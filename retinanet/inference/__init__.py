"""Detection in images with a trained model, by torch or from an exported file."""
