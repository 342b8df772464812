"""NeRFs: the record, its architecture and field, and the files they stand in."""
