"""The fine-tuning problem of Section 5: its loss, its closed form, its trained rivals."""
