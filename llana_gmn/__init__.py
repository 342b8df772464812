"""The multimodal language model that talks about NeRFs, and the command line of the project."""

__version__ = "0.1.0"
