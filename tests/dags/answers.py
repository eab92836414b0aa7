"""What the recorded commands answer: a run in which a better model is promoted."""

import json
from typing import Any

# A folder's name may hold what a shell would take for something else.
URI = "/lake of 'ours' $(touch never) `x`/datasets/T"
DATASET = {"uri": URI, "as_of": "2026-11-20T03:00:00.000Z", "rows": 1000, "frauds": 10, "sha256": "ab" * 32}
PROMOTED = {"version": "3", "previous": "2", "outcome": "promoted", "kind": "better", "reasons": ["ΔAP is above 0"]}
KEPT = {"version": "3", "previous": "2", "outcome": "kept", "kind": None, "reasons": ["ΔAP isn't above 0"]}
ANSWERS: dict[str, dict[str, Any]] = {
    "archive": {"stdout": "{}"},
    # Only the last line is the result.
    "dataset": {"stdout": f"a word too many\n{json.dumps(DATASET)}"},
    "train": {"stdout": json.dumps({"version": "3", "run_id": "r1"})},
    "judge": {"stdout": json.dumps({"outcome": "promote", "reasons": ["ΔAP is above 0"]})},
    "promote": {"stdout": json.dumps(PROMOTED)},
    "maintain": {"stdout": json.dumps({"removed": 4})},
}
