/* SPDX-License-Identifier: MIT */
/* Writing of Protocol Buffers' wire format (protobuf.dev, "Encoding"): what ONNX needs of it. A message is the text of its fields;
 * one inside another is made first and then added as a field. Failed allocations show when the outermost text is taken. */
#ifndef TRINE_NET_PROTOBUF_H
#define TRINE_NET_PROTOBUF_H

#include "base/text.h"

void trine__pb_add_int(trine__text *message, int field, int64_t value);
void trine__pb_add_float(trine__text *message, int field, float value);
void trine__pb_add_bytes(trine__text *message, int field, const void *bytes, size_t count);
void trine__pb_add_string(trine__text *message, int field, const char *text);
/* A message as a field; it is freed. */
void trine__pb_add_message(trine__text *message, int field, trine__text *inner);
/* The beginning of a field of `count` bytes, which the caller adds. */
void trine__pb_begin_bytes(trine__text *message, int field, size_t count);

#endif
