"""Answers about NeRFs: captions of many, a chat about a few, the records that they are kept in."""
