// One iSCSI session on one connection: just enough of an initiator (RFC 7143) to put load on a target.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// What to log in to, and what to offer.
struct settings {
  const char *host, *port, *target, *initiator;
  int lun;
  bool header_digest, data_digest;
  bool solicited_only;  // offer InitialR2T=Yes and ImmediateData=No
};

// A SCSI command under way. Its tag is its index in the session's table.
struct command {
  bool live;
  uint8_t *data;        // write data, or where read data goes (NULL: it is dropped)
  uint32_t length;      // bytes of data
  uint32_t received;    // bytes of read data that have come
  uint8_t status;       // SCSI status, or 0xff for a response that is not "completed at target"
  uint8_t sense[32];    // the beginning of the sense data, with its 2-byte length before it
};

enum direction { NO_DATA, DATA_IN, DATA_OUT };

struct segment {
  uint8_t *bytes;
  uint32_t length;
};

struct session {
  const struct settings *settings;
  void (*done)(void *context, uint32_t tag);  // called for each finished command
  void *context;
  struct command *commands;
  uint32_t command_count;
  uint32_t live;              // commands under way
  bool lost;                  // the connection broke
  bool logout_requested;      // the target asked for a logout (asynchronous message)
  // of the LUN
  uint64_t blocks;
  uint32_t block_bytes;
  // negotiated
  bool agreed_header_digest, agreed_data_digest, immediate_data, initial_r2t;
  bool header_digest, data_digest;  // in use
  uint32_t target_segment_bytes, first_burst_bytes, max_burst_bytes;
  // numbering
  uint32_t isid, cmd_sn, exp_stat_sn, max_cmd_sn;
  // transport
  int socket;
  uint8_t *input;
  size_t input_start, input_end;
  struct segment *output;     // ring; grows at output_end
  uint32_t output_start, output_end;
  uint8_t *headers;           // ring of headers and digests that output refers to
  uint32_t next_header;
};

// Prints a message and ends the process with status 2.
__attribute__((noreturn, format(printf, 1, 2))) void die(const char *format, ...);

// Connects, logs in, and learns the LUN's size. `number` tells the sessions of one process apart; `depth` is the number of
// commands that may be under way. Ends the process if that fails.
void session_open(struct session *session, const struct settings *settings, uint32_t number, uint32_t depth);

// True if the target's command window and the session's table have room for one more command.
bool session_has_room(const struct session *session);

// Queues a command on a free tag.
void session_submit(struct session *session, uint32_t tag, const uint8_t cdb[16], enum direction direction, void *data,
                    uint32_t length);

// Sends what is queued, waits for the target, and handles what has come. If the connection breaks, `lost` is set.
void session_pump(struct session *session);

// Logs out and closes the connection.
void session_close(struct session *session);
