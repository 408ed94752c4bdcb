/* SPDX-License-Identifier: MIT */
/* triplet_memory_add - rows of a batch into the ring of remembered ones: memory[(next + r) mod capacity] = e[first + r].
 * e [N][ld], labels [N], memory [capacity][ld], memory_labels [capacity]; rows <= capacity.
 * global (ld, rows)
 * host src/op/triplet_memory.c   source: Wang et al. 2020, algorithm 1 */
__kernel void triplet_memory_add(__global const float *restrict e, __global const int *restrict labels,
                                 __global float *restrict memory, __global int *restrict memory_labels, const int ld,
                                 const int first, const int rows, const int next, const int capacity)
{
    const int c = (int)get_global_id(0), r = (int)get_global_id(1);
    if (c >= ld || r >= rows) return;
    const int to = (next + r) % capacity;
    memory[(size_t)to * ld + c] = e[(size_t)(first + r) * ld + c];
    if (c == 0) memory_labels[to] = labels[first + r];
}
