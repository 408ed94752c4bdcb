/* SPDX-License-Identifier: MIT */
/* weights_tool IN [OUT...]: read a weights file, say its kind on stdout, write it again under each other
 * name. torch_weights.py drives it. */
#include <stdio.h>

#include "trine/weights.h"

int main(int argc, char **argv)
{
    trine_weights *weights = NULL;
    if (argc < 2 || trine_weights_read(argv[1], &weights) != TRINE_OK) {
        fprintf(stderr, "%s\n", argc < 2 ? "usage: weights_tool IN [OUT...]" : trine_last_error());
        return argc < 2 ? 2 : 4;
    }
    int failed = 0;
    for (int i = 2; i < argc && !failed; i++) {
        if (trine_weights_write(weights, argv[i]) == TRINE_OK) continue;
        fprintf(stderr, "%s\n", trine_last_error());
        failed = 1;
    }
    if (!failed) printf("%s %zu\n", trine_weights_kind(weights), trine_weights_count(weights));
    trine_weights_destroy(&weights);
    return failed;
}
