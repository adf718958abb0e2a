"""The fine-tuning problem of Section 5: its loss, its closed-form minimisers, its trained rivals."""
