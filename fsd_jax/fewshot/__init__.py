"""The front door on user arrays: pre-train, fine-tune, compare with baselines, report, store."""
