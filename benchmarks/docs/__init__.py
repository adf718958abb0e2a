"""Numbers and pictures of the documentation, from the committed records."""
