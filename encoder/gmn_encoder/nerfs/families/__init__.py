"""The families that ship, one file each, registered in the order of the paper, which is that of tables."""

# isort: off
from .mlp import MlpArchitecture
from .triplane import TriplaneArchitecture
from .hash import HashArchitecture
# isort: on

DEFAULT_FAMILY = HashArchitecture.family
"""What an object is fitted as unless another family is named: the one that is fitted soonest."""

__all__ = ["DEFAULT_FAMILY", "HashArchitecture", "MlpArchitecture", "TriplaneArchitecture"]
