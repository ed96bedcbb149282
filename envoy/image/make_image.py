"""The module in an OCI image layout, as Istio and Envoy Gateway read it: MODULE FOLDER"""

import sys
from pathlib import Path

from oci_layout import Layout, add_image, digest, gzip_layer
from project_facts import Refusal, find_facts

# They look for this name in the last layer.
FILE = "plugin.wasm"


class Image:
    """One manifest and one layer. An index in between would have another digest than the one that is compared."""

    def __init__(self, module, facts):
        self.layout = Layout()
        self.module_digest = digest(module)
        manifest = add_image(self.layout, [gzip_layer({FILE: module})], facts.created, facts.annotations())
        self.tag, self.digest = facts.version, manifest["digest"]
        self.layout.name(manifest, self.tag)


def main(module, folder):
    image = Image(Path(module).read_bytes(), find_facts())
    image.layout.write(Path(folder))
    print(f"    image   {image.digest}  beside oci://")
    print(f"    module  {image.module_digest}  beside http://, https://")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except (Refusal, OSError) as failure:
        sys.exit(f"no image: {failure}")
