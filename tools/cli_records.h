/* SPDX-License-Identifier: MIT */
/* TFRecord files: length, its checksum, content, its checksum. */
#ifndef TRINE_TOOLS_CLI_RECORDS_H
#define TRINE_TOOLS_CLI_RECORDS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* CRC-32C (Castagnoli 1993; RFC 3720, B.4), rotated and offset as TFRecord files keep it. */
uint32_t cli_masked_crc32c(const void *bytes, size_t size);
/* @return 0, or -1 with errno set */
int cli_write_record(FILE *file, const void *bytes, size_t size);

#endif
