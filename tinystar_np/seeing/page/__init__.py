"""The page on which a person sees how a token came to be: its data, and the files that show them."""
