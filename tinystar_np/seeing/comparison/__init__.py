"""Two models side by side, ours and transformers' or two of ours: where they first part, and why."""
