// Latencies by their logarithm: 128 buckets for each doubling of nanoseconds, so each is within 1 %.
#pragma once
#include <stdint.h>

enum { SUB_BUCKETS = 128, BUCKETS = 64 * SUB_BUCKETS };

struct histogram {
  uint64_t counts[BUCKETS];
};

static inline void histogram_add(struct histogram *h, uint64_t ns) {
  int exponent = ns < SUB_BUCKETS ? 0 : 63 - __builtin_clzll(ns) - 6;
  int bucket = exponent ? exponent * SUB_BUCKETS + (int)(ns >> (exponent - 1) & (SUB_BUCKETS - 1)) : (int)ns;
  h->counts[bucket]++;
}

// The middle of a bucket in nanoseconds.
static inline double histogram_value(int bucket) {
  int exponent = bucket / SUB_BUCKETS;
  if (!exponent) return bucket;
  return (double)((uint64_t)(SUB_BUCKETS + bucket % SUB_BUCKETS) << (exponent - 1)) + (1ull << (exponent - 1)) / 2.0;
}

// The latency in microseconds that this share of all is not above; 0 if there are none.
static inline double histogram_quantile(const struct histogram *h, double share) {
  uint64_t total = 0, seen = 0;
  for (int i = 0; i < BUCKETS; i++) total += h->counts[i];
  for (int i = 0; i < BUCKETS; i++) {
    seen += h->counts[i];
    if (h->counts[i] && seen >= share * total) return histogram_value(i) / 1e3;
  }
  return 0;
}

static inline double histogram_mean(const struct histogram *h) {
  double sum = 0;
  uint64_t total = 0;
  for (int i = 0; i < BUCKETS; i++) {
    sum += h->counts[i] * histogram_value(i);
    total += h->counts[i];
  }
  return total ? sum / total / 1e3 : 0;
}
