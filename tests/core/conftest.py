"""What the tests of the domain share; test folders are no packages, so it is imported by its own name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
