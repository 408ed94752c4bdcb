/* SPDX-License-Identifier: MIT */
/* TFRecord framing. */
#include "cli_records.h"

static uint32_t crc32c(const unsigned char *bytes, size_t size)
{
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

uint32_t cli_masked_crc32c(const void *bytes, size_t size)
{
    const uint32_t crc = crc32c(bytes, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void little_endian(uint64_t value, unsigned char *out, int bytes)
{
    for (int i = 0; i < bytes; i++) out[i] = (unsigned char)(value >> 8 * i);
}

int cli_write_record(FILE *file, const void *bytes, size_t size)
{
    unsigned char head[12], tail[4];
    little_endian(size, head, 8);
    little_endian(cli_masked_crc32c(head, 8), head + 8, 4);
    little_endian(cli_masked_crc32c(bytes, size), tail, 4);
    const int complete = fwrite(head, sizeof head, 1, file) == 1 && fwrite(bytes, 1, size, file) == size &&
                         fwrite(tail, sizeof tail, 1, file) == 1;
    return complete ? 0 : -1;
}
