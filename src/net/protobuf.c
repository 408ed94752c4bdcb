/* SPDX-License-Identifier: MIT */
#include "net/protobuf.h"

#include <string.h>

enum { VARINT = 0, LENGTH = 2, FIXED32 = 5 }; /* wire types */

/* Seven bits a byte, lowest first; the eighth says that more follow. */
static void add_varint(trine__text *t, uint64_t value)
{
    unsigned char bytes[10];
    size_t count = 0;
    do {
        bytes[count] = (unsigned char)((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
        value >>= 7;
        count++;
    } while (value > 0);
    trine__text_add_bytes(t, bytes, count);
}

static void add_tag(trine__text *t, int field, int type)
{
    add_varint(t, (uint64_t)field << 3 | (uint64_t)type);
}

void trine__pb_add_int(trine__text *message, int field, int64_t value)
{
    add_tag(message, field, VARINT);
    add_varint(message, (uint64_t)value);
}

void trine__pb_add_float(trine__text *message, int field, float value)
{
    add_tag(message, field, FIXED32);
    trine__text_add_bytes(message, &value,
                          sizeof value); /* little-endian, as hosts are: io/weights_private.h */
}

void trine__pb_begin_bytes(trine__text *message, int field, size_t count)
{
    add_tag(message, field, LENGTH);
    add_varint(message, count);
}

void trine__pb_add_bytes(trine__text *message, int field, const void *bytes, size_t count)
{
    trine__pb_begin_bytes(message, field, count);
    if (count > 0) trine__text_add_bytes(message, bytes, count);
}

void trine__pb_add_string(trine__text *message, int field, const char *text)
{
    trine__pb_add_bytes(message, field, text, strlen(text));
}

void trine__pb_add_message(trine__text *message, int field, trine__text *inner)
{
    trine__pb_add_bytes(message, field, inner->data, inner->length);
    message->failed = message->failed || inner->failed;
    trine__text_free(inner);
}
