"""OCI image layouts, the same bytes for the same input: blobs by their digest, and the index that names one of them.

https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest(blob):
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def to_json(tree):
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode()


def tar(files):
    """An archive of these files, bytes by name, that root owns and everybody may read, written in 1970."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def gzipped(content):
    packed = io.BytesIO()
    # gzip.compress writes another header in Python 3.11 than in 3.10.
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as stream:
        stream.write(content)
    return packed.getvalue()


class Layout:
    """The files of a layout, bytes by path."""

    def __init__(self):
        self.files = {"oci-layout": to_json({"imageLayoutVersion": "1.0.0"})}

    def add(self, media_type, blob):
        """The blob's descriptor, by which others name it."""
        name = digest(blob)
        self.files[f"blobs/{name.replace(':', '/')}"] = blob
        return {"mediaType": media_type, "digest": name, "size": len(blob)}

    def name(self, descriptor, tag):
        named = {**descriptor, "annotations": {"org.opencontainers.image.ref.name": tag}}
        self.files["index.json"] = to_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [named]})

    def archive(self):
        return tar(self.files)

    def write(self, folder):
        write_files(folder, self.files, mark="oci-layout")


def write_files(folder, files, mark):
    """These files and no others. An earlier folder of the kind is known by the file `mark`; any other is kept."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / mark).exists():
            raise FileExistsError(f"{folder} has other files, and no {mark}: it is not overwritten")
        shutil.rmtree(folder)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)


def add_image(layout, layers, created=None, annotations=None):
    """An image of these layers, each a media type, a blob and the digest of its archive: its manifest's descriptor."""
    config = {
        # Istio and Envoy Gateway read no platform of an image that is in no index. containerd does, and unpacks none
        # that is made for wasm: such an image could not be mounted as a volume.
        "os": "linux",
        "architecture": "amd64",
        "config": {"Labels": annotations or {}},
        "rootfs": {"type": "layers", "diff_ids": [diff_id for _, _, diff_id in layers]},
    }
    if created:
        config["created"] = created
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": layout.add(CONFIG, to_json(config)),
        "layers": [layout.add(media_type, blob) for media_type, blob, _ in layers],
        "annotations": annotations or {},
    }
    return layout.add(MANIFEST, to_json(manifest))


def gzip_layer(files):
    archive = tar(files)
    return LAYER, gzipped(archive), digest(archive)
