"""Model bundles and the predictors that run them."""

import os

# Read when torch is loaded. By default a thread that waits for the others keeps its core busy. Beside other
# busy programs, two threads took four to ten times the processor time of the same work so.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
