"""What config.json says: keys and their types, and what they mean for rotations and windows."""
