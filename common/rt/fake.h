// SPDX-License-Identifier: Apache-2.0
//
// The simulator's back end of io.h: a network of stream connections in memory with a virtual clock,
// and everything that a real one does to a program, drawn from a seed: short reads and writes,
// EAGAIN, ENOBUFS, delayed and reordered completions, stalls, resets, refused and lost connects.
//
// One fake_net, any number of ios (loops) on it, one thread. The same seed and the same calls give
// the same run. Descriptors are numbers of the net, not of the kernel; any io of the net may use
// them. When nothing is ready the clock jumps to the next event or deadline.
//
// Stricter than a kernel where the runtime must not rely on it: closing a descriptor with an
// operation under way, using a closed one, or submitting an op twice fails a CHECK.
#pragma once

#include <stdio.h>

#include "common/rt/io.h"

struct fake_net;

enum { FAKE_FD_BASE = 1000000 }; // fds are this and up

struct fake_options { // zero = the default in brackets
    uint64_t seed;
    uint32_t n_buffers; // ring blocks an io [32]
    uint32_t buffer_size; // payload of each [4096]
    uint32_t send_buffer_min, send_buffer_max; // a connection's, drawn [2 KiB, 128 KiB]
    uint32_t recv_buffer_min, recv_buffer_max; // [2 KiB, 128 KiB]
    uint64_t latency_min_ns, latency_max_ns; // of each segment [10 us, 300 us]
    uint64_t delay_max_ns; // of a delayed completion [2 ms]
    // Chances in a thousand, drawn whenever it could happen. 0 = never.
    uint16_t short_io; // a read or write takes less than it could
    uint16_t eagain; // a non-blocking send or receive that could go on says EAGAIN
    uint16_t enobufs; // multishot receive ends with ENOBUFS though blocks are free
    uint16_t delay; // a completion comes up to delay_max_ns late
    uint16_t end_multishot; // a multishot ends without F_MORE after a completion
    uint16_t reset; // per segment that arrives: the connection is reset
    uint16_t stall; // per segment that arrives: the connection stands still up to 1 s
    uint16_t connect_error; // a connect is refused or gets no answer
    uint16_t accept_error; // an accept ends with EMFILE
};

// A middling set of faults for a seed: every kind has a chance to occur, in some seeds none does.
struct fake_options fake_chaos(uint64_t seed);

struct fake_net *fake_net_new(const struct fake_options *options);
// Frees it with what is still open: check before (fake_open_fds, fake_pending_ops). After the ios.
void fake_net_free(struct fake_net *net);
struct io *fake_io_new(struct fake_net *net, struct blk_pool *pool); // io->ops->free frees it

uint64_t fake_now(const struct fake_net *net);
void fake_skip(struct fake_net *net, uint64_t ns); // moves the clock
// Switches the chances off (a run's quiet end), or on again.
void fake_set_quiet(struct fake_net *net, bool on);
// One line per event, for a seed that fails. NULL = off.
void fake_set_trace(struct fake_net *net, FILE *file);

// ---- Sockets ----

// What io->ops->socket() calls a network namespace is here a number of the test's choice
// (io_socket_params.netns_fd; -1 is one too). The local address is 127.0.0.1 or ::1.

// A listening socket, which takes connects from any namespace, those of its own first. Port 0
// is not replaced. An unspecified IP takes any address.
int fake_listen(struct fake_net *net, int netns, const struct addr *addr);
int fake_pair(struct fake_net *net, int ret_fds[2]); // connected; 0

enum fake_dst { FAKE_DST_NORMAL, FAKE_DST_BLACKHOLE, FAKE_DST_UNREACHABLE };
// How connects to this address end.
void fake_set_dst(struct fake_net *net, const struct addr *addr, enum fake_dst how);

// ---- Faults by hand ----

void fake_reset(struct fake_net *net, int fd); // something in the middle cuts it: both ends
// The other side is gone without a word; after_ns later both ends fail with ETIMEDOUT (0: never).
void fake_vanish(struct fake_net *net, int fd, uint64_t after_ns);

// ---- The outside world: what a test itself does on a descriptor, at once ----

int fake_dial(struct fake_net *net, int netns, const struct addr *src,
              const struct addr *dst); // fd
ssize_t fake_write(struct fake_net *net, int fd, const void *ptr, size_t len); // bytes, -errno
ssize_t fake_read(struct fake_net *net, int fd, void *ptr, size_t len); // bytes, 0 = EOF, -errno
int fake_shutdown(struct fake_net *net, int fd);
void fake_close(struct fake_net *net, int fd, bool reset);

// ---- Checks ----

size_t fake_open_fds(const struct fake_net *net);
size_t fake_pending_ops(const struct fake_net *net);
void fake_print_open(const struct fake_net *net, FILE *file); // what is left, one a line
