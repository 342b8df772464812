"""``python -m llana_gmn`` is ``llana-gmn``."""

import sys

from .commands import main

sys.exit(main())
