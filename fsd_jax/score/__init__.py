"""Linear scores and the exact errors of scores, subspaces and Gaussian laws."""
