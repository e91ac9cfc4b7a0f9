// See worker.h.
#define _GNU_SOURCE
#include "worker.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PATTERN_BYTES = 33 << 20, COMPLAINTS = 4 };
enum { READ_16 = 0x88, WRITE_16 = 0x8a, SYNCHRONIZE_CACHE_16 = 0x91, FUA = 0x08 };
enum { CHECK_CONDITION = 0x02, UNIT_ATTENTION = 0x06 };

uint64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000000ull + now.tv_nsec;
}

// xorshift64
static uint64_t next_random(struct worker *w) {
  w->random ^= w->random << 13;
  w->random ^= w->random >> 7;
  w->random ^= w->random << 17;
  return w->random;
}

// ---- one I/O

// Sends the command of an I/O whose place and data are settled.
static void send_io(struct worker *w, uint32_t tag) {
  const struct load *load = w->load;
  struct io *io = &w->ios[tag];
  uint32_t blocks = load->unit_bytes / w->session.block_bytes;
  uint64_t lba = htobe64(io->unit * blocks);
  uint32_t count = htobe32(blocks);
  uint8_t cdb[16] = {io->write ? WRITE_16 : READ_16, io->write && load->fua ? FUA : 0};
  memcpy(cdb + 2, &lba, 8);
  memcpy(cdb + 10, &count, 4);
  uint8_t *data = io->write && !load->journal ? (uint8_t *)load->pattern + io->unit % 256 * 4096 : io->buffer;
  session_submit(&w->session, tag, cdb, io->write ? DATA_OUT : DATA_IN, data, load->unit_bytes);
}

static void submit(struct worker *w, uint32_t tag, uint64_t unit, bool write) {
  struct load *load = w->load;
  struct io *io = &w->ios[tag];
  if (load->journal) {
    w->unit_busy[unit - w->first_unit] = true;
    if (write) {
      struct unit *known = &load->journal->units[unit];
      known->pending = known->acknowledged + 1;
      journal_fill(load->journal, unit, known->pending, w->session.block_bytes, io->buffer);
    }
  }
  io->busy = true;
  io->write = write;
  io->flushing = false;
  io->unit = unit;
  io->submitted_ns = now_ns();
  send_io(w, tag);
}

static void flush(struct worker *w, uint32_t tag) {
  uint8_t cdb[16] = {SYNCHRONIZE_CACHE_16};
  w->ios[tag].flushing = true;
  session_submit(&w->session, tag, cdb, NO_DATA, NULL, 0);
}

static void complain(const struct worker *w, const struct io *io, const struct command *command) {
  static _Atomic int complaints;
  if (complaints++ >= COMPLAINTS) return;
  fprintf(stderr, "iload: %s of unit %llu of session %u: status %02x, %u bytes, sense", io->write ? "write" : "read",
          (unsigned long long)io->unit, w->number, command->status, command->received);
  for (int i = 2; i < 20; i++) fprintf(stderr, " %02x", command->sense[i]);
  fprintf(stderr, "\n");
}

// True for news about the LUN (SAM-5 §5.14): the command was not carried out, and is to be sent again.
static bool is_unit_attention(const struct command *command) {
  return command->status == CHECK_CONDITION && (command->sense[4] & 0x0f) == UNIT_ATTENTION;
}

// Notes in the journal what a finished I/O has shown.
static void verify(struct worker *w, const struct io *io, bool good) {
  struct journal *journal = w->load->journal;
  w->unit_busy[io->unit - w->first_unit] = false;
  if (!good) return;
  struct unit *unit = &journal->units[io->unit];
  if (io->write) {
    unit->acknowledged = unit->pending;
    unit->pending = 0;
    journal->writes++;
  } else if (unit->acknowledged || unit->pending) {
    w->results.verified++;
    if (!journal_check(journal, io->unit, w->session.block_bytes, io->buffer)) w->results.wrong++;
  }
}

static void measure(struct worker *w, const struct io *io) {
  uint64_t now = now_ns();
  uint64_t gap = w->last_done_ns ? now - w->last_done_ns : 0;
  if (gap > w->results.longest_gap_ns) w->results.longest_gap_ns = gap;
  w->last_done_ns = now;
  w->results.ios++;
  histogram_add(&w->results.latency, now - io->submitted_ns);
}

// Called by the session for each finished command.
static void done(void *context, uint32_t tag) {
  struct worker *w = context;
  struct io *io = &w->ios[tag];
  const struct command *command = &w->session.commands[tag];
  if (is_unit_attention(command)) {
    w->results.attentions++;
    if (io->flushing) flush(w, tag);
    else send_io(w, tag);
    return;
  }
  bool good = command->status == 0 && (io->write || command->received == command->length);
  if (!good) {
    w->results.errors++;
    complain(w, io, command);
  } else if (io->write && w->load->flush && !io->flushing) {
    flush(w, tag);
    return;
  }
  if (w->load->journal) verify(w, io, good);
  if (good && w->load->phase == MEASURING) measure(w, io);
  io->busy = false;
}

// ---- the load

static bool can_go_on(const struct worker *w) { return !w->session.lost && !w->session.logout_requested; }

// Submits I/Os as long as there is room, on the units that `next` names; it returns false when there are no more.
static void keep_busy(struct worker *w, bool (*next)(struct worker *, uint64_t *unit, bool *write)) {
  for (uint32_t tag = 0; tag < w->load->depth && session_has_room(&w->session); tag++) {
    uint64_t unit;
    bool write;
    if (w->ios[tag].busy) continue;
    if (!next(w, &unit, &write)) return;
    submit(w, tag, unit, write);
  }
}

static void drain(struct worker *w) {
  while (w->session.live && !w->session.lost) session_pump(&w->session);
}

// Goes once through the worker's share. `wanted` says which units.
static void sweep(struct worker *w, bool (*next)(struct worker *, uint64_t *unit, bool *write)) {
  w->next_unit = w->first_unit;
  while (can_go_on(w)) {
    keep_busy(w, next);
    if (!w->session.live) break;
    session_pump(&w->session);
  }
  drain(w);
  w->next_unit = w->first_unit;
}

static bool next_to_fill(struct worker *w, uint64_t *unit, bool *write) {
  *unit = w->next_unit++;
  *write = true;
  return *unit < w->end_unit;
}

static bool next_known(struct worker *w, uint64_t *unit, bool *write) {
  const struct unit *units = w->load->journal->units;
  while (w->next_unit < w->end_unit && !units[w->next_unit].acknowledged && !units[w->next_unit].pending) w->next_unit++;
  *unit = w->next_unit++;
  *write = false;
  if (*unit >= w->end_unit) return false;
  w->results.read_back++;
  return true;
}

// A random or sequential unit. When verifying, one that no other I/O is on; one whose content is in doubt is read first.
static bool next_of_load(struct worker *w, uint64_t *unit, bool *write) {
  struct load *load = w->load;
  uint64_t share = w->end_unit - w->first_unit;
  *write = load->read_percent < 100 && next_random(w) % 100 >= (uint64_t)load->read_percent;
  uint64_t offset = load->sequential ? w->next_unit++ - w->first_unit : next_random(w) % share;
  if (w->next_unit >= w->end_unit) w->next_unit = w->first_unit;
  if (load->journal) {
    while (w->unit_busy[offset]) offset = (offset + 1) % share;
    if (load->journal->units[w->first_unit + offset].pending) *write = false;
  }
  *unit = w->first_unit + offset;
  return true;
}

static void run_load(struct worker *w) {
  while (w->load->phase < STOPPING && can_go_on(w)) {
    keep_busy(w, next_of_load);
    if (!w->session.live) die("the command window is closed for good");
    session_pump(&w->session);
  }
  drain(w);
}

// ---- threads

static void open_worker(struct worker *w) {
  struct load *load = w->load;
  session_open(&w->session, &load->settings, w->number, load->depth);
  w->session.done = done;
  w->session.context = w;
  w->ios = calloc(load->depth, sizeof *w->ios);
  w->random = 0x9e3779b97f4a7c15u * (w->number + 1) ^ now_ns();
  if (!w->ios) die("out of memory");
  if (load->unit_bytes % w->session.block_bytes) die("the LUN's blocks have %u bytes", w->session.block_bytes);
}

// Divides the LUN among the workers; random I/O without verifying may go anywhere.
static void take_share(struct worker *w) {
  struct load *load = w->load;
  uint64_t share = load->units / load->workers;
  bool all = !load->verify && !load->sequential && !load->fill;
  w->first_unit = all ? 0 : share * w->number;
  w->end_unit = all ? load->units : w->first_unit + share;
  w->next_unit = w->first_unit;
  if (w->end_unit - w->first_unit <= load->depth) die("too small a LUN for so many I/Os at once");
  if (!load->verify) return;
  w->unit_busy = calloc(share, sizeof *w->unit_busy);
  for (uint32_t i = 0; i < load->depth; i++) w->ios[i].buffer = malloc(load->unit_bytes);
}

static void say_ready(struct load *load) {
  pthread_mutex_lock(&load->mutex);
  load->ready++;
  pthread_cond_broadcast(&load->changed);
  while (load->ready < load->workers) pthread_cond_wait(&load->changed, &load->mutex);
  pthread_mutex_unlock(&load->mutex);
}

static void say_stopped(struct load *load) {
  pthread_mutex_lock(&load->mutex);
  load->stopped++;
  pthread_cond_broadcast(&load->changed);
  pthread_mutex_unlock(&load->mutex);
}

static void *run_worker(void *argument) {
  struct worker *w = argument;
  struct load *load = w->load;
  take_share(w);
  if (load->fill) sweep(w, next_to_fill);
  say_ready(load);
  if (!load->check_only) run_load(w);
  if (!can_go_on(w)) say_stopped(load);
  if (load->verify && can_go_on(w)) sweep(w, next_known);
  w->results.lost = w->session.lost;
  w->results.logout_requested = w->session.logout_requested;
  session_close(&w->session);
  return NULL;
}

void workers_start(struct load *load, struct worker *workers) {
  pthread_mutex_init(&load->mutex, NULL);
  pthread_cond_init(&load->changed, NULL);
  uint8_t *pattern = malloc(PATTERN_BYTES);
  if (!pattern) die("out of memory");
  for (uint32_t i = 0; i < PATTERN_BYTES; i++) pattern[i] = (uint8_t)(i * 2654435761u >> 13);
  load->pattern = pattern;
  for (uint32_t i = 0; i < load->workers; i++) {
    workers[i].load = load;
    workers[i].number = i;
    open_worker(&workers[i]);
  }
  uint64_t bytes = workers[0].session.blocks * workers[0].session.block_bytes;
  if (load->span_bytes && load->span_bytes < bytes) bytes = load->span_bytes;
  load->units = bytes / load->unit_bytes;
  if (load->verify) load->journal = journal_open(load->journal_path, load->unit_bytes, load->units);
  for (uint32_t i = 0; i < load->workers; i++) pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]);
  pthread_mutex_lock(&load->mutex);
  while (load->ready < load->workers) pthread_cond_wait(&load->changed, &load->mutex);
  pthread_mutex_unlock(&load->mutex);
}

void workers_await(struct load *load, double seconds) {
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  uint64_t ns = until.tv_nsec + (uint64_t)(seconds * 1e9);
  until.tv_sec += ns / 1000000000;
  until.tv_nsec = ns % 1000000000;
  pthread_mutex_lock(&load->mutex);
  while (load->stopped < load->workers && !pthread_cond_timedwait(&load->changed, &load->mutex, &until)) {}
  pthread_mutex_unlock(&load->mutex);
}
