"""adlib: visual anomaly detection.  The core knows no Streamlit; read `adlib.contract` first."""

import os

# Threads that spin while they wait for each other lose whole time slices as soon as anything else runs: a network layer
# took 13 times as long beside two busy processes.  Waiting quietly costs 4 ms a picture at most (docs/decisions/0012).
# Read by OpenMP when torch is loaded, so it has to be said before.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
