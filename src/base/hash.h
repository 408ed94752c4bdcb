/* SPDX-License-Identifier: MIT */
/* 64-bit content hashes (xxHash's XXH3). */
#ifndef TRINE_BASE_HASH_H
#define TRINE_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Hash of `bytes` bytes; chain several pieces by passing the previous hash as seed. */
uint64_t trine__hash(const void *data, size_t bytes, uint64_t seed);

#endif
