"""The linear world: closed forms, theorems, lemmas, and what they cost."""
