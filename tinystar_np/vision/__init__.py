"""Image files → pixels as an encoder takes them, and the places that images have in a text."""
