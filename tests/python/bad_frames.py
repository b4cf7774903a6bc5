"""Makes bad observations from a good one: bad_frames.py GOOD.nc FOLDER.

Written with the netCDF library for Python, so that nothing of Squall's has a part in it.
"""

import pathlib
import shutil
import sys

import netCDF4


def edited(good: pathlib.Path, folder: pathlib.Path, name: str, edit) -> None:
    path = folder / f"{name}.nc"
    shutil.copyfile(good, path)
    with netCDF4.Dataset(path, "a") as data:
        data.set_auto_maskandscale(False)
        rain = next(v for v in data.variables.values() if v.dimensions[-2:] == ("y", "x") and "time" in v.dimensions)
        edit(data, rain)


def main(good: str, target: str) -> None:
    source, folder = pathlib.Path(good), pathlib.Path(target)

    def units(data, rain):
        rain.setncattr("units", "K")

    def grid(data, rain):
        x = data.variables["x"]
        x[:] = x[:] + 50 * (x[1] - x[0])

    def missing(data, rain):
        rain[:] = rain.getncattr("_FillValue")

    def future(data, rain):
        step = {"seconds": 86400, "minutes": 1440, "hours": 24}[data.variables["time"].units.split()[0]]
        data.variables["time"][:] = data.variables["time"][:] + step

    def slot(data, rain):
        step = {"seconds": 60, "minutes": 1, "hours": 1 / 60}[data.variables["time"].units.split()[0]]
        data.variables["time"][:] = data.variables["time"][:] - step

    for name, edit in [("units", units), ("grid", grid), ("missing", missing), ("future", future), ("slot", slot)]:
        edited(source, folder, name, edit)

    raw = source.read_bytes()
    (folder / "truncated.nc").write_bytes(raw[: len(raw) // 2])
    # An HDF5 signature, then lies about everything that follows: the superblock's addresses point beyond the file.
    hostile = bytearray(raw)
    hostile[12:96] = b"\xfe\xff\xff\xff\xff\xff\xff\x7f" * 10 + b"\xff" * 4
    (folder / "hostile.nc").write_bytes(bytes(hostile))
    # A sound superblock, and garbage where the object headers are.
    body = bytearray(raw)
    for offset in range(96, min(len(body), 4096)):
        body[offset] = (body[offset] * 31 + offset * 7 + 13) % 256
    (folder / "garbage.nc").write_bytes(bytes(body))


if __name__ == "__main__":
    main(*sys.argv[1:])
