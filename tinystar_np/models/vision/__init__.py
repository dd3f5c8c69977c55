"""Vision encoders, one file each: from an image's pixels to a vector for each of its patches."""
