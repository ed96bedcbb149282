"""A registry on loopback, Debian's docker-registry, and pushes to it by skopeo."""

import json
import shutil
import subprocess

from processes import Process

NEEDED = ["docker-registry", "skopeo"]
# Without TLS, as on loopback.
PLAIN = "--dest-tls-verify=false"


def missing():
    return [name for name in NEEDED if shutil.which(name) is None]


class Registry:
    def __init__(self, folder):
        config = folder / "registry.json"
        # JSON is YAML.
        config.write_text(json.dumps({
            "version": "0.1",
            "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
            "http": {"addr": "127.0.0.1:0"},
        }))  # fmt: skip
        self.process = Process("docker-registry", "serve", config)
        try:
            self.port = int(self.process.err.wait_for(r"listening on 127\.0\.0\.1:(\d+)")[1])
        except RuntimeError:
            self.process.kill()
            raise

    def push(self, layout, repository, tag):
        """The image or index that the layout names, with the digests that it has there."""
        target = f"docker://127.0.0.1:{self.port}/{repository}:{tag}"
        command = ["skopeo", "copy", "--all", "--preserve-digests", PLAIN, f"oci:{layout}", target]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop()
