/* SPDX-License-Identifier: MIT */
/* How often the largest logit is the label's. */
#include "base/error.h"
#include "trine/trainer.h"

/* Largest of [classes], the first of equals; -1 if one is NaN: such a row is never right. */
static int largest(const float *row, int classes)
{
    int best = 0;
    for (int c = 0; c < classes; c++) {
        if (row[c] != row[c]) return -1;
        if (row[c] > row[best]) best = c;
    }
    return best;
}

trine_status trine_classify_accuracy(const float *logits, const int *labels, size_t count, int classes,
                                     double *accuracy)
{
    TRINE_CHECK(logits && labels && accuracy, TRINE_ERR_ARG, "accuracy: logits, labels or result is missing");
    TRINE_CHECK(classes >= 1, TRINE_ERR_ARG, "accuracy: %d classes, expected at least 1", classes);
    TRINE_CHECK(count >= 1, TRINE_ERR_DATA, "accuracy: no images");
    size_t right = 0;
    for (size_t i = 0; i < count; i++) {
        TRINE_CHECK(labels[i] >= 0 && labels[i] < classes, TRINE_ERR_DATA,
                    "accuracy: image %zu has class number %d, the network has %d outputs", i, labels[i],
                    classes);
        right += largest(logits + i * (size_t)classes, classes) == labels[i];
    }
    *accuracy = (double)right / (double)count;
    return TRINE_OK;
}
