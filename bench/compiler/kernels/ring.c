#include <stdint.h>
static uint8_t ring[4096];
static uint32_t totals[4];

static uint32_t message(uint32_t at) {
  uint32_t kind = ring[at & 4095], length = ring[(at + 1) & 4095], sum = 0;
  for (uint32_t i = 0; i < length; i++) sum = (sum << 1) + ring[(at + 2 + i) & 4095];
  switch (kind & 3) {
    case 0: totals[0] += sum; break;
    case 1: totals[1] ^= sum; break;
    case 2: totals[2] += sum * 3; break;
    default: totals[3] -= sum; break;
  }
  return at + 2 + length;
}

void ring_init(void) {
  uint32_t seed = 7;
  for (uint32_t i = 0; i < 4096; i++) ring[i] = (uint8_t)((seed = seed * 1664525 + 1013904223) >> 26);
}

uint32_t ring_run(uint32_t rounds) {
  uint32_t at = 0;
  for (uint32_t r = 0; r < rounds; r++) {
    for (uint32_t i = 0; i < 4096; i++) at = message(at);
  }
  return totals[0] ^ totals[1] ^ totals[2] ^ totals[3];
}
