// iload: puts load on an iSCSI LUN with an initiator of its own, and checks that what it reads is what it wrote.
//
//   cc -O2 -msse4.2 -pthread -o iload iload.c worker.c session.c journal.c
//   ./iload -p 127.0.0.1:3260 -t iqn.2026-11.dev.huntaway:demo -l 0 -w randwrite -q 32 -V
//
// One thread, one session and one connection each (-c). Destroys the LUN's data in all modes that write. Prints one JSON
// object. Exit status: 0 well; 1 I/O errors or wrong data; 2 it could not begin, or the target broke the protocol; 3 the
// connection was lost.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "worker.h"

enum { MAX_PIDS = 64, MAX_WORKERS = 256 };

static const char USAGE[] =
    "usage: iload -p HOST:PORT -t TARGET [options]\n"
    "  -l LUN         the LUN (0)\n"
    "  -w MODE        randread, randwrite, randrw, read, write (both sequential), fua (random writes through), flush (random\n"
    "                 writes, each followed by SYNCHRONIZE CACHE), check (reads once what the journal knows)\n"
    "  -r PERCENT     reads in randrw (70)\n"
    "  -b SIZE        bytes of each I/O (4k)\n"
    "  -q DEPTH       commands under way in each session (1)\n"
    "  -c COUNT       sessions (1)\n"
    "  -d n|h|d|hd    offer no digests, header digest, data digest, both (n)\n"
    "  -R             ask for R2Ts only: InitialR2T=Yes, ImmediateData=No\n"
    "  -s SIZE        use only so much of the LUN\n"
    "  -F             write all that is used before the load begins\n"
    "  -W SECONDS     warm up (1)\n"
    "  -T SECONDS     measure (5)\n"
    "  -V             verify: write self-describing blocks, check what is read, and at the end read all back\n"
    "  -J FILE        keep the journal of acknowledged writes in this file; a later run goes on with it (implies -V)\n"
    "  -P PID,PID     processes whose CPU time is charged to the target";

static struct load load = {.settings = {.host = "127.0.0.1", .port = "3260", .initiator = "iqn.2026-11.dev.huntaway:iload"},
                           .unit_bytes = 4096, .depth = 1, .workers = 1, .read_percent = 100};
static double warm_seconds = 1, measure_seconds = 5;
static const char *mode = "randread", *journal_path;
static pid_t pids[MAX_PIDS];
static int pid_count;

static uint64_t parse_size(const char *text) {
  char *end;
  uint64_t size = strtoull(text, &end, 0);
  switch (*end) {
    case 0: return size;
    case 'k': case 'K': return size << 10;
    case 'm': case 'M': return size << 20;
    case 'g': case 'G': return size << 30;
    default: die("%s is not a size", text);
  }
}

static void parse_portal(char *text) {
  char *colon = strrchr(text, ':');
  if (colon) {
    *colon = 0;
    load.settings.port = colon + 1;
  }
  load.settings.host = text;
}

static void parse_pids(char *text) {
  for (char *pid = strtok(text, ","); pid && pid_count < MAX_PIDS; pid = strtok(NULL, ",")) pids[pid_count++] = atoi(pid);
}

static void parse_mode(void) {
  bool mixed = !strcmp(mode, "randrw");
  if (mixed) load.read_percent = load.read_percent == 100 ? 70 : load.read_percent;
  else load.read_percent = !strcmp(mode, "randread") || !strcmp(mode, "read") ? 100 : 0;
  load.sequential = !strcmp(mode, "read") || !strcmp(mode, "write");
  load.fua = !strcmp(mode, "fua");
  load.flush = !strcmp(mode, "flush");
  load.check_only = !strcmp(mode, "check");
  bool plain = !strcmp(mode, "randread") || !strcmp(mode, "randwrite");
  if (!mixed && !plain && !load.sequential && !load.fua && !load.flush && !load.check_only) die("no such mode: %s", mode);
  if (load.check_only && !journal_path) die("check needs a journal");
}

static void parse_options(int argc, char **argv) {
  int option;
  while ((option = getopt(argc, argv, "p:t:l:w:r:b:q:c:d:Rs:FW:T:VJ:P:")) != -1) switch (option) {
      case 'p': parse_portal(optarg); break;
      case 't': load.settings.target = optarg; break;
      case 'l': load.settings.lun = atoi(optarg); break;
      case 'w': mode = optarg; break;
      case 'r': load.read_percent = atoi(optarg); break;
      case 'b': load.unit_bytes = parse_size(optarg); break;
      case 'q': load.depth = atoi(optarg); break;
      case 'c': load.workers = atoi(optarg); break;
      case 'd':
        load.settings.header_digest = strchr(optarg, 'h');
        load.settings.data_digest = strchr(optarg, 'd');
        break;
      case 'R': load.settings.solicited_only = true; break;
      case 's': load.span_bytes = parse_size(optarg); break;
      case 'F': load.fill = true; break;
      case 'W': warm_seconds = atof(optarg); break;
      case 'T': measure_seconds = atof(optarg); break;
      case 'V': load.verify = true; break;
      case 'J': journal_path = optarg; load.verify = true; break;
      case 'P': parse_pids(optarg); break;
      default: die("%s", USAGE);
    }
  if (!load.settings.target || optind != argc) die("%s", USAGE);
  if (load.workers < 1 || load.workers > MAX_WORKERS || load.depth < 1 || load.depth > 1024) die("%s", USAGE);
  if (!load.unit_bytes || load.unit_bytes > 16 << 20) die("an I/O has 1 byte to 16 MiB");
  parse_mode();
}

// ---- CPU time

static double seconds_of(struct timeval time) { return time.tv_sec + time.tv_usec / 1e6; }

// User and system time of a process in seconds, in steps of 10 ms. 0 if it is gone.
static double cpu_of(pid_t pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  int file = open(path, O_RDONLY);
  if (file < 0) return 0;
  ssize_t length = read(file, text, sizeof text - 1);
  close(file);
  text[length > 0 ? length : 0] = 0;
  char *after_name = strrchr(text, ')');
  unsigned long user, system;
  if (!after_name || sscanf(after_name, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) return 0;
  return (double)(user + system) / sysconf(_SC_CLK_TCK);
}

struct cpu {
  double target, self, machine;  // busy seconds so far
  double at;
};

static struct cpu cpu_now(void) {
  struct cpu now = {0};
  for (int i = 0; i < pid_count; i++) now.target += cpu_of(pids[i]);
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  now.self = seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
  FILE *file = fopen("/proc/stat", "r");
  unsigned long user = 0, nice = 0, system = 0, idle, wait, irq = 0, softirq = 0;
  if (file && fscanf(file, "cpu %lu %lu %lu %lu %lu %lu %lu", &user, &nice, &system, &idle, &wait, &irq, &softirq) == 7)
    now.machine = (double)(user + nice + system + irq + softirq) / sysconf(_SC_CLK_TCK);
  if (file) fclose(file);
  now.at = now_ns() / 1e9;
  return now;
}

// ---- report

static void add_up(struct results *sum, const struct results *part) {
  sum->ios += part->ios;
  sum->errors += part->errors;
  sum->verified += part->verified;
  sum->wrong += part->wrong;
  sum->read_back += part->read_back;
  sum->attentions += part->attentions;
  sum->lost |= part->lost;
  sum->logout_requested |= part->logout_requested;
  if (part->longest_gap_ns > sum->longest_gap_ns) sum->longest_gap_ns = part->longest_gap_ns;
  for (int i = 0; i < BUCKETS; i++) sum->latency.counts[i] += part->latency.counts[i];
}

static void print_report(const struct worker *first, const struct results *r, struct cpu before, struct cpu after) {
  double seconds = after.at - before.at, per_io = r->ios ? 1e6 / r->ios : 0;
  const struct histogram *h = &r->latency;
  printf("{\"mode\":\"%s\",\"bs\":%u,\"qd\":%u,\"conns\":%u,\"hd\":%d,\"dd\":%d,\"verify\":%d,\"secs\":%.3f,", mode,
         load.unit_bytes, load.depth, load.workers, first->session.header_digest, first->session.data_digest, load.verify, seconds);
  printf("\"ios\":%llu,\"errs\":%llu,\"verified\":%llu,\"read_back\":%llu,\"wrong\":%llu,\"attentions\":%llu,\"lost\":%d,\"logout_requested\":%d,",
         (unsigned long long)r->ios, (unsigned long long)r->errors, (unsigned long long)r->verified,
         (unsigned long long)r->read_back, (unsigned long long)r->wrong, (unsigned long long)r->attentions, r->lost, r->logout_requested);
  printf("\"iops\":%.1f,\"MBps\":%.2f,", r->ios / seconds, r->ios * (double)load.unit_bytes / seconds / 1e6);
  printf("\"lat_us\":{\"mean\":%.1f,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f},\"maxgap_ms\":%.1f,",
         histogram_mean(h), histogram_quantile(h, 0.5), histogram_quantile(h, 0.9), histogram_quantile(h, 0.99),
         histogram_quantile(h, 0.999), histogram_quantile(h, 1), r->longest_gap_ns / 1e6);
  printf("\"tgt_cpu_s\":%.2f,\"tgt_us_per_io\":%.3f,\"self_us_per_io\":%.3f,\"machine_us_per_io\":%.3f,\"machine_busy_cores\":%.2f}\n",
         after.target - before.target, (after.target - before.target) * per_io, (after.self - before.self) * per_io,
         (after.machine - before.machine) * per_io, (after.machine - before.machine) / seconds);
}

int main(int argc, char **argv) {
  parse_options(argc, argv);
  load.journal_path = journal_path;
  struct worker *workers = calloc(load.workers, sizeof *workers);
  if (!workers) die("out of memory");
  workers_start(&load, workers);
  workers_await(&load, warm_seconds);
  struct cpu before = cpu_now();
  load.phase = MEASURING;
  workers_await(&load, load.check_only ? 0 : measure_seconds);
  load.phase = STOPPING;
  struct cpu after = cpu_now();
  static struct results sum;
  for (uint32_t i = 0; i < load.workers; i++) {
    pthread_join(workers[i].thread, NULL);
    add_up(&sum, &workers[i].results);
  }
  print_report(workers, &sum, before, after);
  return sum.errors || sum.wrong ? 1 : sum.lost ? 3 : 0;
}
