"""Everything between image files and a batch on the training device."""
