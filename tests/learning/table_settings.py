"""Settings of agents whose network is a table, and of a Rainbow that is a plain DQN."""

import os
from pathlib import Path

TABLE = {
    "mlp_type": f"{Path(__file__).parent}/tabular.py:Table",
    "use_ln": False,
    "diagnostics": "off",
    "threads": int(os.environ["OMP_NUM_THREADS"]),
    "max_grad_norm": None,
}

# Rainbow without any of its extensions.
PLAIN = {"distributional": False, "dueling": False, "noisy": "off", "double": False, "prioritized": False, "n_step": 1}
