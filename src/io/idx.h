/* SPDX-License-Identifier: MIT */
/* The IDX format of MNIST (http://yann.lecun.com/exdb/mnist/): a big-endian header, then unsigned bytes. */
#ifndef TRINE_IO_IDX_H
#define TRINE_IO_IDX_H

#include "base/memory.h"

typedef struct trine__idx {
    int dims;             /* 1 for labels, 3 for images */
    uint32_t size[3];     /* images: count, height, width */
    unsigned char *items; /* [size[0]]...[size[dims - 1]], owned; free() */
} trine__idx;

/* Read a whole file, plain or gzip, told by content. TRINE_ERR_OPEN; TRINE_ERR_FORMAT: other header than
 * `dims` dimensions of unsigned bytes, fewer or more bytes than the header says, gzip damage. */
trine_status trine__idx_read(const char *path, int dims, trine__idx *out);

#endif
