"""NeRFs: the record, its architecture and field, the families that ship, and the files they stand in."""

from . import families as families  # registered before anything of this room can be asked for them
