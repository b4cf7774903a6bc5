"""Draws the first probability field on a topic of Squall's (see formats.md): consumer.py BROKER TOPIC PICTURE.png"""
import json, struct, sys
import matplotlib.pyplot as plt, numpy as np, zstandard
from confluent_kafka import Consumer

broker, topic, picture = sys.argv[1:4]
consumer = Consumer({"bootstrap.servers": broker, "group.id": "consumer.py", "auto.offset.reset": "earliest",
                     "isolation.level": "read_committed", "enable.auto.commit": False})
consumer.subscribe([topic])
tiles, wanted = {}, None
while wanted is None or len(tiles) < wanted["tile"]["count"]:
    message = consumer.poll(60)
    if message is None or message.error():
        sys.exit(f"nothing to read on {topic}: {message and message.error()}")
    length, = struct.unpack_from("<I", message.value(), 4)              # b"SQT1", length, JSON header, zstd frame
    header = json.loads(message.value()[8:8 + length])
    wanted = wanted or header                                           # the first field that comes is drawn
    if all(header[k] == wanted[k] for k in ("stream", "model_digest", "issue_time", "revision", "variable", "lead_seconds")):
        raw = zstandard.decompress(message.value()[8 + length:])
        raw = np.frombuffer(raw, header["dtype"]).reshape(header["shape"])
        values = np.where(raw == header["missing"], np.nan, raw * header["scale"] + header["offset"])
        tiles[header["tile"]["row"], header["tile"]["column"]] = values
field = np.full((len(wanted["levels"]), wanted["grid"]["y"]["len"], wanted["grid"]["x"]["len"]), np.nan)
for (row, column), values in tiles.items():
    field[:, row:row + values.shape[1], column:column + values.shape[2]] = values
plt.imshow(field[0], vmin=0, vmax=1)
plt.title(f"P({wanted['variable']} >= {wanted['levels'][0]:g} {wanted['level_unit']}) at {wanted['valid_time']}")
plt.savefig(picture)
print(f"{wanted['stream']} {wanted['issue_time']}: mean probability {np.nanmean(field[0]):.3f}")
