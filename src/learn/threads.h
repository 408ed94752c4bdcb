/* SPDX-License-Identifier: MIT */
/* Work shared out among host threads. */
#ifndef TRINE_LEARN_THREADS_H
#define TRINE_LEARN_THREADS_H

/* `asked`, or one a processor where asked is 0; 1 to 1024. */
int trine__threads(int asked);
/* Run work(user, 0), ..., work(user, threads - 1) at once and wait for all; number 0 runs on the calling
 * thread. Where the system refuses a thread its call is left out: the work must be shared out by a counter
 * that any of the calls can take on. */
void trine__parallel(int threads, void (*work)(void *user, int number), void *user);

#endif
