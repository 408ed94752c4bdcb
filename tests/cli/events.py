# SPDX-License-Identifier: MIT
"""A reader of TensorBoard's event files by their published format: TFRecord framing, CRC-32C, and protobuf's wire format."""
import struct


def crc32c(data):
    """Castagnoli's, bit by bit."""
    crc = 0xffffffff
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82f63b78 if crc & 1 else 0)
    return crc ^ 0xffffffff


def masked(data):
    """As TFRecord files keep it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17 & 0xffffffff) + 0xa282ead8) & 0xffffffff


def records(path):
    """The contents of a TFRecord file, checksums compared."""
    assert crc32c(b"123456789") == 0xe3069283
    with open(path, "rb") as file:
        data = file.read()
    found, at = [], 0
    while at < len(data):
        size, = struct.unpack_from("<Q", data, at)
        assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at:at + 8]), "checksum of a length"
        content = data[at + 12:at + 12 + size]
        assert struct.unpack_from("<I", data, at + 12 + size)[0] == masked(content), "checksum of a record"
        found.append(content)
        at += 16 + size
    assert at == len(data)
    return found


def varint(data, at):
    """A number and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift += 7
        at += 1
        if data[at - 1] < 128:
            return value, at


def fields(data):
    """{number: [values]} of a message."""
    found, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        elif key & 7 == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        else:
            assert key & 7 == 2, key
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        found.setdefault(key >> 3, []).append(value)
    assert at == len(data)
    return found


def doubles(data):
    """A packed field."""
    return list(struct.unpack("<%dd" % (len(data) // 8), data))


def read(path):
    """(version, {tag: [(step, number)]}, {tag: [(step, histogram)]}) of an event file."""
    version, scalars, histograms, last = None, {}, {}, 0
    for content in records(path):
        event = fields(content)
        assert event[1][0] >= last > -1, "time goes forward"
        last = event[1][0]
        if 3 in event:
            version = event[3][0].decode()
        step = event.get(2, [0])[0]
        for value in fields(event[5][0])[1] if 5 in event else []:
            value = fields(value)
            tag = value[1][0].decode()
            if 2 in value:
                scalars.setdefault(tag, []).append((step, value[2][0]))
            else:
                histogram = fields(value[5][0])
                histograms.setdefault(tag, []).append((step, {
                    "num": histogram[3][0], "min": histogram.get(1, [0])[0], "max": histogram[2][0], "sum": histogram[4][0],
                    "squares": histogram[5][0], "limits": doubles(histogram[6][0]), "counts": doubles(histogram[7][0])}))
    return version, scalars, histograms
