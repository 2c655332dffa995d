"""What the tests of the readers share; test folders are no packages, so it is imported by its own name."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
