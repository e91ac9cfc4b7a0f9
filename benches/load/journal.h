// What was written where: self-describing blocks, and a journal of the writes that were acknowledged.
//
// The LUN is divided into units of one I/O. Each write of a unit has a generation, one higher than the last. Every block of it
// says which block, generation and run it belongs to, and carries a checksum of itself. A unit must always hold the
// generation that was acknowledged last, or the one that was under way when the connection broke.
//
// The journal may be a file: it then outlives the process, and the next run goes on where this one stopped.
#pragma once
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct unit {
  uint32_t acknowledged;  // generation of the last acknowledged write; 0: none
  uint32_t pending;       // generation of a write that may or may not have happened; 0: none
};

// The file: this head, then the units. In the byte order of the machine.
struct journal {
  char magic[8];
  uint64_t seed;                 // tells this journal's blocks from others
  uint64_t unit_bytes, unit_count;
  _Atomic uint64_t writes;       // writes acknowledged, all runs together
  uint64_t reserved[3];
  struct unit units[];
};

// Opens or makes the journal of a LUN. Without a path it is in memory only.
struct journal *journal_open(const char *path, uint64_t unit_bytes, uint64_t unit_count);

// Fills the blocks of a unit with what its write of this generation must hold.
void journal_fill(const struct journal *journal, uint64_t unit, uint32_t generation, uint32_t block_bytes, uint8_t *data);

// Checks what was read from a unit, and notes which generation it turned out to hold. Complains on stderr and returns false
// if it is wrong. Says nothing about a unit that was never written.
bool journal_check(struct journal *journal, uint64_t unit, uint32_t block_bytes, const uint8_t *data);
