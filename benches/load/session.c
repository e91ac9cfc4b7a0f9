// See session.h. PDU layouts: RFC 7143 §11.
#define _GNU_SOURCE
#include "session.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "crc32c.h"

enum {
  OP_NOP_OUT = 0x00, OP_COMMAND = 0x01, OP_LOGIN = 0x03, OP_DATA_OUT = 0x05, OP_LOGOUT = 0x06,
  OP_NOP_IN = 0x20, OP_RESPONSE = 0x21, OP_LOGIN_RESPONSE = 0x23, OP_DATA_IN = 0x25, OP_LOGOUT_RESPONSE = 0x26,
  OP_R2T = 0x31, OP_ASYNC = 0x32, OP_REJECT = 0x3f,
  IMMEDIATE = 0x40, FINAL = 0x80,
  HEADER_BYTES = 48,
  HEADER_SLOT_BYTES = 64,
  RING = 16384,                // segments and header slots of the output
  INPUT_BYTES = 4 << 20,
  OUR_SEGMENT_BYTES = 262144,  // the MaxRecvDataSegmentLength that we declare
  LOGIN_STEPS = 8,
};
#define NO_TAG 0xffffffffu

void die(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "iload: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  va_end(arguments);
  exit(2);
}

static void put32(uint8_t *at, uint32_t value) {
  value = htobe32(value);
  memcpy(at, &value, 4);
}

static uint32_t get32(const uint8_t *at) {
  uint32_t value;
  memcpy(&value, at, 4);
  return be32toh(value);
}

static uint32_t padded(uint32_t length) { return (length + 3) & ~3u; }

// Serial number arithmetic (RFC 1982): a is after b.
static bool after(uint32_t a, uint32_t b) { return (int32_t)(a - b) > 0; }

// ---- sending

static void queue_segment(struct session *s, uint8_t *bytes, uint32_t length) {
  if (s->output_end - s->output_start >= RING) die("the output queue is full");
  s->output[s->output_end++ % RING] = (struct segment){bytes, length};
}

static uint8_t *new_header(struct session *s) {
  uint8_t *header = s->headers + (size_t)(s->next_header++ % RING) * HEADER_SLOT_BYTES;
  memset(header, 0, HEADER_SLOT_BYTES);
  return header;
}

// Queues a PDU whose header is filled in but for ExpStatSN, lengths and digests. `length` is a multiple of 4.
static void queue_pdu(struct session *s, uint8_t *header, uint8_t *data, uint32_t length) {
  put32(header + 28, s->exp_stat_sn);
  put32(header + 4, length);
  uint32_t header_bytes = HEADER_BYTES;
  if (s->header_digest) {
    uint32_t digest = crc32c(header, HEADER_BYTES);
    memcpy(header + HEADER_BYTES, &digest, 4);
    header_bytes += 4;
  }
  queue_segment(s, header, header_bytes);
  if (!length) return;
  queue_segment(s, data, length);
  if (s->data_digest) {
    uint8_t *slot = new_header(s);
    uint32_t digest = crc32c(data, length);
    memcpy(slot, &digest, 4);
    queue_segment(s, slot, 4);
  }
}

// Sends what the socket takes. True if nothing is left.
static bool flush_output(struct session *s) {
  while (s->output_start != s->output_end) {
    struct iovec parts[256];
    int count = 0;
    for (uint32_t i = s->output_start; i != s->output_end && count < 256; i++, count++)
      parts[count] = (struct iovec){s->output[i % RING].bytes, s->output[i % RING].length};
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent = sendmsg(s->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
      if (errno != EAGAIN) s->lost = true;
      return false;
    }
    while (sent) {
      struct segment *first = &s->output[s->output_start % RING];
      uint32_t part = (size_t)sent < first->length ? (uint32_t)sent : first->length;
      first->bytes += part;
      first->length -= part;
      sent -= part;
      if (!first->length) s->output_start++;
    }
  }
  return true;
}

// Queues `length` bytes of a command's data from `offset` on, in Data-Out PDUs. The last one is final.
static void queue_data_out(struct session *s, uint32_t tag, uint32_t transfer_tag, uint32_t offset, uint32_t length) {
  for (uint32_t data_sn = 0; length; data_sn++) {
    uint32_t part = length < s->target_segment_bytes ? length : s->target_segment_bytes;
    length -= part;
    uint8_t *header = new_header(s);
    header[0] = OP_DATA_OUT;
    header[1] = length ? 0 : FINAL;
    header[9] = s->settings->lun;
    put32(header + 16, tag);
    put32(header + 20, transfer_tag);
    put32(header + 36, data_sn);
    put32(header + 40, offset);
    queue_pdu(s, header, s->commands[tag].data + offset, part);
    offset += part;
  }
}

bool session_has_room(const struct session *s) {
  return s->live < s->command_count && !after(s->cmd_sn, s->max_cmd_sn);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

void session_submit(struct session *s, uint32_t tag, const uint8_t cdb[16], enum direction direction, void *data,
                    uint32_t length) {
  s->commands[tag] = (struct command){.live = true, .data = data, .length = length};
  s->live++;
  uint32_t immediate = 0, unsolicited = 0;
  if (direction == DATA_OUT) {
    uint32_t first_burst = least(length, s->first_burst_bytes);
    if (s->immediate_data) immediate = least(first_burst, s->target_segment_bytes);
    if (!s->initial_r2t) unsolicited = first_burst - immediate;
  }
  uint8_t *header = new_header(s);
  header[0] = OP_COMMAND;
  header[1] = (unsolicited ? 0 : FINAL) | (direction == DATA_IN ? 0x40 : direction == DATA_OUT ? 0x20 : 0) | 1 /* simple */;
  header[9] = s->settings->lun;
  put32(header + 16, tag);
  put32(header + 20, length);
  put32(header + 24, s->cmd_sn++);
  memcpy(header + 32, cdb, 16);
  queue_pdu(s, header, data, immediate);
  queue_data_out(s, tag, NO_TAG, immediate, unsolicited);
}

// ---- receiving

static void finish(struct session *s, uint32_t tag, uint8_t status) {
  s->commands[tag].status = status;
  s->commands[tag].live = false;
  s->live--;
  s->done(s->context, tag);
}

static struct command *live_command(struct session *s, const uint8_t *header) {
  uint32_t tag = get32(header + 16);
  if (tag >= s->command_count || !s->commands[tag].live) die("the target answered command %u, which is not under way", tag);
  return &s->commands[tag];
}

static void handle_response(struct session *s, const uint8_t *header, const uint8_t *data, uint32_t length) {
  struct command *command = live_command(s, header);
  memcpy(command->sense, data, least(length, sizeof command->sense));
  finish(s, get32(header + 16), header[2] ? 0xff : header[3]);
}

static void handle_data_in(struct session *s, const uint8_t *header, const uint8_t *data, uint32_t length) {
  struct command *command = live_command(s, header);
  uint32_t offset = get32(header + 40);
  if (offset != command->received || length > command->length - offset)
    die("Data-In of %u bytes at %u where %u was next of %u", length, offset, command->received, command->length);
  if (command->data) memcpy(command->data + offset, data, length);
  command->received += length;
  if (header[1] & 1) finish(s, get32(header + 16), header[3]);
}

static void handle_r2t(struct session *s, const uint8_t *header) {
  struct command *command = live_command(s, header);
  uint32_t offset = get32(header + 40), length = get32(header + 44);
  if (offset > command->length || length > command->length - offset) die("R2T beyond the end of the data");
  queue_data_out(s, get32(header + 16), get32(header + 20), offset, length);
}

// Answers a ping of the target.
static void handle_nop_in(struct session *s, const uint8_t *ping) {
  if (get32(ping + 20) == NO_TAG) return;
  uint8_t *header = new_header(s);
  header[0] = OP_NOP_OUT | IMMEDIATE;
  header[1] = FINAL;
  memcpy(header + 8, ping + 8, 8);
  put32(header + 16, NO_TAG);
  memcpy(header + 20, ping + 20, 4);
  put32(header + 24, s->cmd_sn);
  queue_pdu(s, header, NULL, 0);
}

static void handle_async(struct session *s, const uint8_t *header) {
  enum { SCSI_EVENT = 0, LOGOUT_REQUEST = 1 };
  if (header[36] == LOGOUT_REQUEST) s->logout_requested = true;
  else if (header[36] != SCSI_EVENT) s->lost = true;
}

static void take_numbers(struct session *s, const uint8_t *header) {
  int opcode = header[0] & 0x3f;
  uint32_t max_cmd_sn = get32(header + 32), next_stat_sn = get32(header + 24) + 1;
  if (after(max_cmd_sn, s->max_cmd_sn)) s->max_cmd_sn = max_cmd_sn;
  // these carry a StatSN without having used one
  bool unnumbered = opcode == OP_R2T || (opcode == OP_DATA_IN && !(header[1] & 1)) ||
                    (opcode == OP_NOP_IN && get32(header + 16) == NO_TAG);
  if (!unnumbered && after(next_stat_sn, s->exp_stat_sn)) s->exp_stat_sn = next_stat_sn;
}

static void handle_pdu(struct session *s, const uint8_t *header, const uint8_t *data, uint32_t length) {
  take_numbers(s, header);
  switch (header[0] & 0x3f) {
    case OP_RESPONSE: handle_response(s, header, data, length); break;
    case OP_DATA_IN: handle_data_in(s, header, data, length); break;
    case OP_R2T: handle_r2t(s, header); break;
    case OP_NOP_IN: handle_nop_in(s, header); break;
    case OP_ASYNC: handle_async(s, header); break;
    case OP_LOGOUT_RESPONSE: s->lost = true; break;
    default: die("unexpected opcode %02x from the target (reason %02x)", header[0], header[2]);
  }
}

static void check_digest(const char *which, const uint8_t *bytes, uint32_t length) {
  uint32_t digest;
  memcpy(&digest, bytes + length, 4);
  if (digest != crc32c(bytes, length)) die("the target's %s digest is wrong", which);
}

// Handles the complete PDUs of the input buffer. True if there were any.
static bool handle_input(struct session *s) {
  bool any = false;
  for (;;) {
    uint8_t *header = s->input + s->input_start;
    size_t have = s->input_end - s->input_start;
    if (have < HEADER_BYTES) break;
    uint32_t header_bytes = HEADER_BYTES + header[4] * 4u, length = get32(header + 4) & 0xffffff;
    uint32_t data_at = header_bytes + (s->header_digest ? 4 : 0);
    size_t total = data_at + padded(length) + (length && s->data_digest ? 4 : 0);
    if (total > INPUT_BYTES) die("a PDU of %zu bytes from the target", total);
    if (have < total) break;
    if (s->header_digest) check_digest("header", header, header_bytes);
    if (s->data_digest && length) check_digest("data", header + data_at, padded(length));
    s->input_start += total;
    handle_pdu(s, header, header + data_at, length);
    any = true;
  }
  if (s->input_start == s->input_end) {
    s->input_start = s->input_end = 0;
  } else if (s->input_start > INPUT_BYTES / 2) {
    memmove(s->input, s->input + s->input_start, s->input_end - s->input_start);
    s->input_end -= s->input_start;
    s->input_start = 0;
  }
  return any;
}

void session_pump(struct session *s) {
  bool any = false;
  while (!any && !s->lost) {
    if (!flush_output(s)) {
      struct pollfd wait = {s->socket, POLLIN | POLLOUT, 0};
      poll(&wait, 1, -1);
      if (!(wait.revents & (POLLIN | POLLHUP | POLLERR))) continue;
    }
    ssize_t got = recv(s->socket, s->input + s->input_end, INPUT_BYTES - s->input_end, 0);
    if (got <= 0) {
      s->lost = true;
      return;
    }
    s->input_end += got;
    any = handle_input(s);
  }
  flush_output(s);
}

// ---- opening and closing

static void receive_all(struct session *s, void *bytes, size_t length) {
  for (ssize_t got; length; length -= got, bytes = (char *)bytes + got) {
    got = recv(s->socket, bytes, length, 0);
    if (got <= 0) die("the connection broke during the login");
  }
}

static void connect_to_portal(struct session *s) {
  struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *address;
  const struct settings *to = s->settings;
  if (getaddrinfo(to->host, to->port, &hints, &address)) die("%s:%s is not an address", to->host, to->port);
  s->socket = socket(address->ai_family, SOCK_STREAM, 0);
  if (connect(s->socket, address->ai_addr, address->ai_addrlen)) die("%s:%s: %s", to->host, to->port, strerror(errno));
  freeaddrinfo(address);
  int on = 1;
  setsockopt(s->socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void take_key(struct session *s, const char *key, const char *value) {
  if (!strcmp(key, "HeaderDigest")) s->agreed_header_digest = !strcmp(value, "CRC32C");
  else if (!strcmp(key, "DataDigest")) s->agreed_data_digest = !strcmp(value, "CRC32C");
  else if (!strcmp(key, "MaxRecvDataSegmentLength")) s->target_segment_bytes = strtoul(value, NULL, 0);
  else if (!strcmp(key, "FirstBurstLength")) s->first_burst_bytes = strtoul(value, NULL, 0);
  else if (!strcmp(key, "MaxBurstLength")) s->max_burst_bytes = strtoul(value, NULL, 0);
  else if (!strcmp(key, "ImmediateData")) s->immediate_data = !strcmp(value, "Yes");
  else if (!strcmp(key, "InitialR2T")) s->initial_r2t = !strcmp(value, "Yes");
}

// Takes the keys of a login response.
static void take_keys(struct session *s, char *text, uint32_t length) {
  for (char *pair = text; pair < text + length; ) {
    char *next = pair + strlen(pair) + 1, *equals = strchr(pair, '=');
    if (equals) {
      *equals = 0;
      take_key(s, pair, equals + 1);
    }
    pair = next;
  }
}

// Writes the keys of one login request and returns their length. Stage 0 is security, 1 operational negotiation.
static uint32_t offer_keys(const struct session *s, int stage, char *text, size_t size) {
  const struct settings *to = s->settings;
  const char *r2t = to->solicited_only ? "Yes" : "No", *immediate = to->solicited_only ? "No" : "Yes";
  const char *header = to->header_digest ? "CRC32C" : "None", *data = to->data_digest ? "CRC32C" : "None";
  int length;
  if (stage == 0)
    length = snprintf(text, size, "InitiatorName=%s\nInitiatorAlias=iload\nTargetName=%s\nSessionType=Normal\nAuthMethod=None\n",
                      to->initiator, to->target);
  else
    length = snprintf(text, size,
                      "HeaderDigest=%s\nDataDigest=%s\nInitialR2T=%s\nImmediateData=%s\nMaxRecvDataSegmentLength=%d\n"
                      "MaxBurstLength=16776192\nFirstBurstLength=262144\nMaxOutstandingR2T=1\nMaxConnections=1\n"
                      "DataPDUInOrder=Yes\nDataSequenceInOrder=Yes\nDefaultTime2Wait=2\nDefaultTime2Retain=0\n"
                      "ErrorRecoveryLevel=0\n",
                      header, data, r2t, immediate, OUR_SEGMENT_BYTES);
  if ((size_t)length >= size) die("the names are too long");
  for (int i = 0; i < length; i++)
    if (text[i] == '\n') text[i] = 0;
  return length;
}

static void send_login(struct session *s, int stage, uint16_t tsih, bool with_keys) {
  static __thread char text[2048];
  memset(text, 0, sizeof text);
  uint32_t length = with_keys ? offer_keys(s, stage, text, sizeof text) : 0;
  uint8_t *header = new_header(s);
  header[0] = OP_LOGIN | IMMEDIATE;
  header[1] = FINAL /* transit */ | stage << 2 | (stage == 0 ? 1 : 3);
  put32(header + 8, 0x80000000u | s->isid);  // a random ISID (RFC 7143 §11.12.5)
  header[14] = tsih >> 8;
  header[15] = tsih;
  put32(header + 24, s->cmd_sn);
  queue_pdu(s, header, (uint8_t *)text, padded(length));
  put32(header + 4, length);
  while (!flush_output(s))
    if (s->lost) die("the connection broke during the login");
}

static void login(struct session *s) {
  s->target_segment_bytes = 8192;
  s->first_burst_bytes = 65536;
  s->max_burst_bytes = 262144;
  s->immediate_data = s->initial_r2t = true;
  bool offered[2] = {false, false};
  int stage = 0;
  uint16_t tsih = 0;
  for (int step = 0; step < LOGIN_STEPS; step++) {
    send_login(s, stage, tsih, !offered[stage]);
    offered[stage] = true;
    uint8_t header[HEADER_BYTES];
    receive_all(s, header, sizeof header);
    if ((header[0] & 0x3f) != OP_LOGIN_RESPONSE) die("opcode %02x in answer to a login", header[0]);
    if (header[36]) die("the login was refused: status %02x%02x", header[36], header[37]);
    uint32_t length = get32(header + 4) & 0xffffff;
    char *text = calloc(1, padded(length) + 1);
    receive_all(s, text, padded(length));
    take_keys(s, text, length);
    free(text);
    s->exp_stat_sn = get32(header + 24) + 1;
    s->max_cmd_sn = get32(header + 32);
    tsih = header[14] << 8 | header[15];
    bool transit = header[1] & FINAL;
    if (transit && (header[1] & 3) == 3) {
      s->header_digest = s->agreed_header_digest;  // digests begin with the full feature phase
      s->data_digest = s->agreed_data_digest;
      return;
    }
    if (transit) stage = header[1] & 3;
  }
  die("the login does not end");
}

static void ignore_done(void *context, uint32_t tag) {
  (void)context;
  (void)tag;
}

// Runs one command by itself and returns its status.
static uint8_t run_alone(struct session *s, const uint8_t cdb[16], void *data, uint32_t length) {
  session_submit(s, 0, cdb, length ? DATA_IN : NO_DATA, data, length);
  while (s->live && !s->lost) session_pump(s);
  if (s->lost) die("the connection broke");
  return s->commands[0].status;
}

static void learn_capacity(struct session *s) {
  uint8_t test_unit_ready[16] = {0};
  for (int tries = 0; tries < 10 && run_alone(s, test_unit_ready, NULL, 0); tries++) {}  // unit attentions
  uint8_t read_capacity[16] = {0x9e, 0x10, [13] = 32}, capacity[32] = {0};
  uint8_t status = run_alone(s, read_capacity, capacity, sizeof capacity);
  if (status) die("READ CAPACITY(16) of LUN %d: status %02x", s->settings->lun, status);
  s->blocks = ((uint64_t)get32(capacity) << 32 | get32(capacity + 4)) + 1;
  s->block_bytes = get32(capacity + 8);
}

void session_open(struct session *s, const struct settings *settings, uint32_t number, uint32_t depth) {
  *s = (struct session){.settings = settings, .done = ignore_done, .cmd_sn = 1, .command_count = depth};
  s->isid = ((uint32_t)getpid() << 8 | (number & 0xff)) & 0xffffff;
  s->commands = calloc(depth, sizeof *s->commands);
  s->input = malloc(INPUT_BYTES);
  s->output = calloc(RING, sizeof *s->output);
  s->headers = malloc((size_t)RING * HEADER_SLOT_BYTES);
  if (!s->commands || !s->input || !s->output || !s->headers) die("out of memory");
  connect_to_portal(s);
  login(s);
  learn_capacity(s);
}

void session_close(struct session *s) {
  if (!s->lost) {
    uint8_t *header = new_header(s);
    header[0] = OP_LOGOUT | IMMEDIATE;
    header[1] = FINAL;
    put32(header + 24, s->cmd_sn);
    queue_pdu(s, header, NULL, 0);
    struct timeval limit = {2, 0};
    setsockopt(s->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    while (!s->lost) session_pump(s);
  }
  close(s->socket);
}
