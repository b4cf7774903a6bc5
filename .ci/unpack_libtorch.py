"""Takes the C++ part of a torch wheel, and the two CUDA libraries that its CPU library links, out of the wheels.

usage: unpack_libtorch.py WHEELS DESTINATION

A wheel is a zip file; the standard library reads it. Shared objects that only Python or a GPU uses stay behind.
"""

import pathlib
import shutil
import sys
import zipfile

LEFT_BEHIND = ("cuda", "python", "nvrtc", "nvshmem", "libshm", "libtorch.so", "libtorch_global_deps")


def destination(name: str) -> str | None:
    """Where a member of a wheel goes, or None for what is not needed."""
    base = name.rsplit("/", 1)[-1]
    if name.startswith("torch/include/"):
        return name.removeprefix("torch/")
    if name.startswith(("torch/lib/", "torch.libs/")) and ".so" in base and not any(w in base for w in LEFT_BEHIND):
        return f"lib/{base}"
    if name.startswith("nvidia/") and base.startswith(("libcudart.so", "libcupti.so")):
        return f"lib/{base}"
    return None


def main(wheels: str, target: str) -> None:
    for wheel in sorted(pathlib.Path(wheels).glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                place = destination(member.filename)
                if place is None or member.is_dir():
                    continue
                path = pathlib.Path(target, place)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, path.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                if place.startswith("lib/"):
                    path.chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
