"""What the tests of the rules of triage share is imported by its own name, since test folders are no packages."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
