"""``python -m benchmarks.feedback charts [OUT]`` or ``python -m benchmarks.feedback real DATA WORK``.

``charts`` injects changes into simulated departments and prints after how many cases each is found, and how
many stable months have an alarm; with OUT it draws a chart of each. ``real`` compares the measures of real
patients in the layout of OpenKBP with surface-distance on the masks that plastimatch reads.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    if sys.argv[1:2] == ["real"]:
        from benchmarks.feedback.real_cases import main as compare

        compare(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        from benchmarks.feedback.injections import main as inject

        inject(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
