// A worker: one thread with one session that keeps a number of I/Os under way.
#pragma once
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "histogram.h"
#include "journal.h"
#include "session.h"

enum phase { WARMING, MEASURING, STOPPING };

// What all workers do together.
struct load {
  struct settings settings;
  uint32_t unit_bytes, depth, workers;
  uint64_t span_bytes;          // use so much of the LUN; 0: all
  int read_percent;
  bool sequential, fua, flush, fill, verify, check_only;
  const char *journal_path;
  // set by workers_start
  struct journal *journal;      // NULL unless verifying
  uint64_t units;
  const uint8_t *pattern;       // write data when not verifying
  _Atomic int phase;
  _Atomic uint32_t stopped;     // workers whose connection broke, or whose target asked them to leave
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  uint32_t ready;               // under the mutex
};

struct results {
  uint64_t ios, errors;         // in the measured time; errors at any time
  uint64_t verified, wrong;     // reads of which the data was checked, and was wrong, at any time
  uint64_t read_back;           // units read again at the end
  uint64_t attentions;          // unit attentions: commands sent again
  uint64_t longest_gap_ns;      // between two completions
  bool lost, logout_requested;
  struct histogram latency;
};

// One I/O of a worker; its index is the command's tag.
struct io {
  bool busy, write, flushing;
  uint64_t unit, submitted_ns;
  uint8_t *buffer;              // when verifying
};

struct worker {
  struct load *load;
  uint32_t number;
  pthread_t thread;
  struct session session;
  struct io *ios;
  bool *unit_busy;              // when verifying: by unit of this worker's share
  uint64_t first_unit, end_unit, next_unit;
  uint64_t random;
  uint64_t last_done_ns;
  struct results results;
};

uint64_t now_ns(void);

// Starts the workers and waits until all are logged in and have filled their share.
void workers_start(struct load *load, struct worker *workers);

// Waits so many seconds, or until no worker can go on.
void workers_await(struct load *load, double seconds);
