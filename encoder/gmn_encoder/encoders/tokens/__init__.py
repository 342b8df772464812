"""NeRFs as sequences of tokens (SANE, Schürholt et al., ICML 2024): raw rows of their weights, or what their fields show."""
