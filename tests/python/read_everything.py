"""Reads what a run has left, as somebody would who knows docs/formats.md and nothing else.

usage: read_everything.py BROKER PREFIX STORE

Every topic with that prefix is read with read_committed; every NetCDF file is opened with xarray. Prints one line of JSON
with what was found; anything that is not as documented is an error.
"""

import collections
import hashlib
import json
import math
import pathlib
import struct
import sys

import numpy
import xarray
import zstandard
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition


def read(consumer: Consumer, topic: str) -> list:
    partitions = consumer.list_topics(topic, timeout=60).topics[topic].partitions
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    messages, open_partitions = [], set(partitions)
    while open_partitions:
        message = consumer.poll(60)
        assert message is not None, f"{topic}: no answer"
        if message.error():
            assert message.error().code() == KafkaError._PARTITION_EOF, message.error()
            open_partitions.discard(message.partition())
        else:
            messages.append(message)
    return messages


def check_headers(message) -> None:
    headers = {name: value.decode() for name, value in message.headers()}
    assert headers["ce_specversion"] == "1.0"
    for name in ("ce_id", "ce_source", "ce_type", "ce_time", "ce_subject", "content-type", "stream", "issue-time",
                 "revision", "members", "degraded", "model-digest", "traceparent"):
        assert headers.get(name), f"{message.topic()}: no header {name}"


def check_index(message) -> dict:
    check_headers(message)
    assert len(message.value()) <= 8192, "a WIS2 notification has at most 8192 bytes"
    index = json.loads(message.value())
    assert index["type"] == "Feature" and index["geometry"]["type"] == "Polygon"
    ring = index["geometry"]["coordinates"][0]
    assert ring[0] == ring[-1] and all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in ring)
    properties = index["properties"]
    for name in ("pubtime", "start_datetime", "end_datetime", "data_id", "integrity", "squall"):
        assert name in properties, f"index: no {name}"
    assert len(index["links"]) == 1 and index["links"][0]["rel"] in ("canonical", "update")
    squall = properties["squall"]
    assert message.key().decode() == f"{squall['stream']}|{squall['model_digest']}|{squall['issue_time']}"
    return index


def check_tile(message) -> tuple:
    check_headers(message)
    value = message.value()
    assert value[:4] == b"SQT1" and len(value) < 1_000_000
    length, = struct.unpack_from("<I", value, 4)
    header = json.loads(value[8:8 + length])
    raw = zstandard.decompress(value[8 + length:])
    raw = numpy.frombuffer(raw, header["dtype"]).reshape(header["shape"])
    values = numpy.where(raw == header["missing"], numpy.nan, raw * header["scale"] + header["offset"])
    assert header["shape"][0] == len(header["levels"])
    if header["product"] == "probability":
        known = values[~numpy.isnan(values)]
        assert known.size == 0 or (known.min() >= 0 and known.max() <= 1)
        assert not (numpy.diff(values, axis=0) > 1e-6).any(), "a higher threshold is not exceeded more often"
    return header, values


# A product of the tiles, in a file: its variable, the coordinate of its levels and what that counts in, and how far the two
# may differ, being packed in steps of their own.
IN_FILE = {
    "probability": ("probability_of_{}_above_threshold", "threshold", 1, 0.0026),
    "quantile": ("{}_percentiles", "percentile", 100, 0.0101),
    "mean": ("{}_mean", None, 1, 0.0101),
    "precision": ("precision", None, 1, 0.0006),
}
STANDARD_NAMES = {"rain_rate": "lwe_precipitation_rate"}


SCORE_HEADERS = ["ce_id", "ce_source", "ce_specversion", "ce_subject", "ce_time", "ce_type", "content-type"]


def check_scored(message) -> dict | None:
    """A record of the topic of scores, or of that of statistics; None for a tombstone."""
    headers = {name: value.decode() for name, value in message.headers()}
    assert sorted(headers) == SCORE_HEADERS, headers
    assert headers["ce_subject"] == message.key().decode()
    if message.value() is None:
        return None
    record = json.loads(message.value())
    assert headers["ce_time"] == record["known_at"]
    if headers["ce_type"] == "squall.skill.v1":
        key = [record["stream"], "skill", record["baseline"], record["variable"], record["region"]]
        assert record["of_baseline"] == 0 or record["skill"] == 1 - record["published"] / record["of_baseline"]
    else:
        key = [record["stream"], record["contestant"], record["model_digest"][:12], record["variable"], record["region"],
               str(round(record["lead_minutes"] * 60))]
        if headers["ce_type"] == "squall.statistics.v1":
            key.append(record["valid_time"])
            assert all(int(number) != 0 for score in record["sums"] for number in score["sums"].values())
        else:
            assert headers["ce_type"] == "squall.scores.v1"
            window = record["window"]
            key += [window["name"]] if window["name"] == "all" else [window["name"], window["from"]]
    assert message.key().decode() == "|".join(key), message.key()
    return record


def newest(messages: list) -> dict:
    """The newest record of each key that was not taken back."""
    records = {message.key().decode(): check_scored(message) for message in messages}
    return {key: record for key, record in records.items() if record is not None}


def ratio(over: int, under: int) -> float | None:
    """Of two sums; None where there is nothing to divide by."""
    return over / under if under else None


def root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


# The numbers that follow from the sums of a score, by number, as docs/formats.md has them.
FOLLOWS = {
    "crps": {
        "crps": lambda sums: ratio(sums[0], sums[2]),
        "crps_fair": lambda sums: ratio(sums[1], sums[3]),
    },
    "mae": {
        "mae": lambda sums: ratio(sums[1], sums[3]),
        "rmse": lambda sums: root(ratio(sums[2], sums[3])),
        "bias": lambda sums: ratio(sums[0], sums[3]),
    },
    "csi": {
        "csi": lambda sums: ratio(sums[0], sums[0] + sums[1] + sums[2]),
        "pod": lambda sums: ratio(sums[0], sums[0] + sums[2]),
        "far": lambda sums: ratio(sums[1], sums[0] + sums[1]),
        "frequency_bias": lambda sums: ratio(sums[0] + sums[1], sums[0] + sums[2]),
    },
}


def check_pooled(scores: dict, statistics: dict) -> None:
    """The scores of a window count what the statistics of its valid times count together, and follow from their sums."""
    counts = collections.defaultdict(float)
    sums = collections.defaultdict(collections.Counter)
    for record in statistics.values():
        valid = record["valid_time"]
        series = tuple(record[name] for name in ("contestant", "model_digest", "variable", "region", "lead_minutes"))
        for score in record["sums"]:
            for window in (("1h", f"{valid[:13]}:00:00Z"), ("24h", f"{valid[:10]}T00:00:00Z"), ("all", None)):
                of = (series, window, score["score"], score["threshold"], score["scale"])
                counts[of] += score["count"]
                for number, sum_of in score["sums"].items():
                    sums[of][int(number)] += int(sum_of)
    compared, followed = 0, set()
    for record in scores.values():
        if "contestant" not in record:
            continue
        series = tuple(record[name] for name in ("contestant", "model_digest", "variable", "region", "lead_minutes"))
        for score in record["scores"]:
            window = (record["window"]["name"], record["window"]["from"])
            of = (series, window, score["score"], score["threshold"], score["scale"])
            if of in counts:
                assert counts[of] == score["count"], f"{of}: {counts[of]} and {score['count']}"
                compared += 1
            for name, numbers in FOLLOWS.items():
                of = (series, window, name, score["threshold"], score["scale"])
                if score["score"] in numbers and of in sums:
                    value, expected = score["value"], numbers[score["score"]](sums[of])
                    is_same = value == expected or None not in (value, expected) and math.isclose(
                        value, expected, rel_tol=1e-12, abs_tol=1e-15)
                    assert is_same, f"{score['score']} of {of}: {value}, and its sums say {expected}"
                    followed.add(score["score"])
    # The first score that follows from sums has their name, mostly.
    assert compared > 0 or not scores, "no score has the name of its sums"
    there = {of[2] for of in sums}
    should = {number for name, numbers in FOLLOWS.items() if name in there for number in numbers}
    assert followed == should or not scores, f"followed {followed} of {should}"


def digests(records: dict) -> dict:
    """What records say, but for when it became known."""
    def digest(record: dict) -> str:
        said = {name: value for name, value in record.items() if name != "known_at"}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]

    return {key: digest(record) for key, record in records.items()}


def identity(about: dict) -> list:
    return [about[key] for key in ("stream", "model_digest", "issue_time", "revision")]


def check_fields(data: xarray.Dataset, tiles: list) -> None:
    leads = data["forecast_period"].values.tolist()
    for header, values in tiles:
        name, levels, factor, tolerance = IN_FILE[header["product"]]
        field = data[name.format(STANDARD_NAMES.get(header["variable"], header["variable"]))]
        if levels is None:
            field = field.expand_dims("level")
        else:
            levels = next(dimension for dimension in field.dims if dimension.startswith(levels))
            assert numpy.allclose(data[levels].values / factor, header["levels"]), f"{header['product']}: other levels"
        row, column = header["tile"]["row"], header["tile"]["column"]
        part = field.values[:, leads.index(header["lead_seconds"])]
        part = part[:, row:row + values.shape[1], column:column + values.shape[2]]
        assert numpy.allclose(part, values, rtol=0, atol=tolerance, equal_nan=True), f"{header['product']} differs"


def check_file(path: pathlib.Path, index: dict | None, tiles: list) -> int:
    with xarray.open_dataset(path, decode_timedelta=False) as data:
        data.load()
        assert data.attrs["Conventions"].startswith("CF-1.")
        assert "forecast_reference_time" in data.variables and "forecast_period" in data.variables
        ensembles = [v for v in data.data_vars.values() if "realization" in v.dims]
        assert ensembles, f"{path}: no ensemble"
        if index is not None:
            squall = index["properties"]["squall"]
            assert data.sizes["realization"] == squall["members"]
            assert data.sizes["time"] == len(squall["lead_seconds"])
        check_fields(data, tiles)
        return len(data.variables)


def main(broker: str, prefix: str, store: str) -> None:
    consumer = Consumer({"bootstrap.servers": broker, "group.id": f"{prefix}.reader", "enable.partition.eof": True,
                         "isolation.level": "read_committed", "enable.auto.commit": False,
                         "fetch.wait.max.ms": 20})
    topics = sorted(name for name in consumer.list_topics(timeout=60).topics if name.startswith(prefix))
    messages = {topic.removeprefix(prefix + "."): read(consumer, topic) for topic in topics}
    consumer.close()
    indices = [check_index(message) for message in messages.get("index", [])]
    tiles = [check_tile(message) for kind in ("probabilities", "quantiles") for message in messages.get(kind, [])]
    by_file = {index["links"][0]["href"].removeprefix("file://"): index for index in indices}
    files = sorted(pathlib.Path(store).rglob("*.nc"))
    variables = []
    for path in files:
        index = by_file.get(str(path))
        same = [tile for tile in tiles if index and identity(tile[0]) == identity(index["properties"]["squall"])]
        variables.append(check_file(path, index, same))
    missing = set(by_file) - {str(path) for path in files}
    assert not missing, f"the index points at files that are not there: {missing}"
    scored = {kind: newest(messages.get(kind, [])) for kind in ("scores", "statistics")}
    check_pooled(**scored)
    print(json.dumps({
        "newest": {kind: digests(records) for kind, records in scored.items()},
        "topics": {kind: len(found) for kind, found in messages.items()},
        "products": sorted({header["product"] for header, _ in tiles}),
        "files": len(files),
        "variables": sum(variables),
    }))


if __name__ == "__main__":
    main(*sys.argv[1:])
