"""Evaluation of encoders and language models on NeRFs: metrics, benchmark runs, retrieval, classification."""
