"""Augmentation of training images in batches on the device."""
