"""`regrow study`: the experiments on weight centralization, run on real models and data."""
