// CRC32C, the checksum of iSCSI's digests (RFC 7143 §13.1) and of the self-describing blocks.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __SSE4_2__
#include <nmmintrin.h>

static inline uint32_t crc32c(const void *data, size_t length) {
  const uint8_t *byte = data;
  uint64_t crc = ~0u;
  for (; length >= 8; length -= 8, byte += 8) {
    uint64_t word;
    memcpy(&word, byte, 8);
    crc = _mm_crc32_u64(crc, word);
  }
  while (length--) crc = _mm_crc32_u8((uint32_t)crc, *byte++);
  return ~(uint32_t)crc;
}

#else

static inline uint32_t crc32c(const void *data, size_t length) {
  const uint8_t *byte = data;
  uint32_t crc = ~0u;
  while (length--) {
    crc ^= *byte++;
    for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
  }
  return ~crc;
}

#endif
