// See journal.h.
#include "journal.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "crc32c.h"
#include "session.h"

enum { FILLING_BYTES = 1 << 20, MAX_BLOCK_BYTES = 4096, COMPLAINTS = 8 };
static const char JOURNAL_MAGIC[8] = "IOJOURN1";
static const uint64_t BLOCK_MAGIC = 0x6b6c622064616f6c;

// How a block begins. It ends with the CRC32C of all that comes before.
struct head {
  uint64_t magic, seed, lba;
  uint32_t generation, unused;
};

// Bytes that blocks are filled up with, so that no two blocks are alike.
static uint8_t filling[FILLING_BYTES + MAX_BLOCK_BYTES];

static void make_filling(void) {
  uint64_t state = 88172645463325252u;  // xorshift64
  for (size_t i = 0; i < sizeof filling; i += 8) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    memcpy(filling + i, &state, 8);
  }
}

static uint64_t new_seed(void) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return ((uint64_t)now.tv_sec << 30 ^ now.tv_nsec) * 0x9e3779b97f4a7c15u ^ getpid();
}

struct journal *journal_open(const char *path, uint64_t unit_bytes, uint64_t unit_count) {
  make_filling();
  size_t size = sizeof(struct journal) + unit_count * sizeof(struct unit);
  int file = -1;
  if (path) {
    file = open(path, O_RDWR | O_CREAT, 0600);
    struct stat now;
    if (file < 0 || fstat(file, &now)) die("%s cannot be opened", path);
    if (now.st_size && (size_t)now.st_size != size) die("%s is of another load or LUN", path);
    if (ftruncate(file, size)) die("%s cannot be extended", path);
  }
  struct journal *journal = mmap(NULL, size, PROT_READ | PROT_WRITE, path ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, file, 0);
  if (journal == MAP_FAILED) die("no memory for the journal");
  if (file >= 0) close(file);
  if (!memcmp(journal->magic, JOURNAL_MAGIC, sizeof JOURNAL_MAGIC)) {
    if (journal->unit_bytes != unit_bytes || journal->unit_count != unit_count) die("%s is of another load or LUN", path);
  } else {
    memcpy(journal->magic, JOURNAL_MAGIC, sizeof JOURNAL_MAGIC);
    journal->seed = new_seed();
    journal->unit_bytes = unit_bytes;
    journal->unit_count = unit_count;
  }
  return journal;
}

void journal_fill(const struct journal *journal, uint64_t unit, uint32_t generation, uint32_t block_bytes, uint8_t *data) {
  uint32_t blocks = journal->unit_bytes / block_bytes;
  for (uint32_t i = 0; i < blocks; i++, data += block_bytes) {
    struct head head = {BLOCK_MAGIC, journal->seed, unit * blocks + i, generation, 0};
    memcpy(data, filling + (head.lba * 64 + generation * 8u) % FILLING_BYTES, block_bytes - 4);
    memcpy(data, &head, sizeof head);
    uint32_t crc = crc32c(data, block_bytes - 4);
    memcpy(data + block_bytes - 4, &crc, 4);
  }
}

static bool all_zero(const uint8_t *data, uint32_t length) {
  return !data[0] && !memcmp(data, data + 1, length - 1);
}

static void complain(uint64_t lba, const struct unit *unit, const char *found, uint32_t generation) {
  static _Atomic int complaints;
  if (complaints++ < COMPLAINTS)
    fprintf(stderr, "iload: WRONG DATA at LBA %llu: acknowledged generation %u, pending %u, found %s %u\n",
            (unsigned long long)lba, unit->acknowledged, unit->pending, found, generation);
}

// The generation that a block holds; 0 if it was never written. False if it holds something else.
static bool read_generation(const struct journal *journal, const struct unit *unit, uint64_t lba, uint32_t block_bytes,
                            const uint8_t *data, uint32_t *generation) {
  struct head head;
  uint32_t crc;
  memcpy(&head, data, sizeof head);
  memcpy(&crc, data + block_bytes - 4, 4);
  *generation = 0;
  const char *found = NULL;
  if (head.magic != BLOCK_MAGIC) {
    if (!unit->acknowledged && all_zero(data, block_bytes)) return true;
    found = all_zero(data, block_bytes) ? "zeroes" : "something foreign";
  } else if (crc != crc32c(data, block_bytes - 4)) {
    found = "a damaged block of generation";
  } else if (head.seed != journal->seed || head.lba != lba) {
    found = head.seed != journal->seed ? "another run's block" : "another place's block";
  }
  *generation = head.magic == BLOCK_MAGIC ? head.generation : 0;
  if (!found && (*generation == unit->acknowledged || *generation == unit->pending)) return true;
  complain(lba, unit, found ? found : "generation", *generation);
  return false;
}

bool journal_check(struct journal *journal, uint64_t number, uint32_t block_bytes, const uint8_t *data) {
  struct unit *unit = &journal->units[number];
  if (!unit->acknowledged && !unit->pending) return true;
  uint32_t blocks = journal->unit_bytes / block_bytes, lowest = ~0u, highest = 0;
  for (uint32_t i = 0; i < blocks; i++, data += block_bytes) {
    uint32_t generation;
    if (!read_generation(journal, unit, number * blocks + i, block_bytes, data, &generation)) return false;
    if (generation > highest) highest = generation;
    if (generation < lowest) lowest = generation;
  }
  // A write that was never acknowledged may have happened in part: then either generation stays right for each block.
  if (lowest == highest) {
    unit->acknowledged = highest;
    unit->pending = 0;
  }
  return true;
}
