"""Envoy's own check of a configuration: it loads the filter, and the filter reads its settings."""

import subprocess

from processes import ENVOY, ROOT


def validate(config_file):
    return subprocess.run(
        [ENVOY, "--mode", "validate", "-c", config_file], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
