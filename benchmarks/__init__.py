"""`python -m benchmarks`: run cases, write records, print tables, draw figures."""
