"""nf2vec's encoder, which LLaNA-7B reads: MLP NeRFs of one width, as rows of weights."""
