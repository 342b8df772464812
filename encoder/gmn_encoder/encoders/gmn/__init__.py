"""The Graph Meta-Network encoder: parameter graphs to embeddings, along edge lists or dense blocks."""
