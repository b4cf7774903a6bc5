"""Cuts a part out of an archive: cut.py SOURCE TARGET FIRST_TIME FRAMES SIZE [LEFT_OUT].

FRAMES frames from FIRST_TIME on, one of them left out if LEFT_OUT is its number, and of each the square of SIZE x SIZE
cells in which most is going on in the middle of them.
"""

import sys

import numpy
import xarray


def fullest(field: numpy.ndarray, size: int) -> tuple[int, int]:
    """Corner of the square with the largest sum, on a lattice of a quarter of its side."""
    field = numpy.nan_to_num(numpy.abs(field))
    rows, columns = field.shape
    step = max(size // 4, 1)
    places = [(row, column) for row in range(0, rows - size + 1, step) for column in range(0, columns - size + 1, step)]
    return max(places, key=lambda place: field[place[0] : place[0] + size, place[1] : place[1] + size].sum())


def main(source: str, target: str, first: str, frames: str, size: str, left_out: str = "-1") -> None:
    with xarray.open_dataset(source) as data, xarray.open_dataset(
        source, mask_and_scale=False, decode_times=False
    ) as raw:
        start = int(numpy.searchsorted(data.time.values, numpy.datetime64(first)))
        wanted = [start + i for i in range(int(frames)) if i != int(left_out)]
        field = next(variable for variable in data.data_vars.values() if variable.ndim == 3)
        row, column = fullest(field.isel(time=start + int(frames) // 2).values, int(size))
        across = {field.dims[1]: slice(row, row + int(size)), field.dims[2]: slice(column, column + int(size))}
        raw.isel(time=wanted, **across).to_netcdf(target)


main(*sys.argv[1:])
