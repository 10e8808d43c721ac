#include <stdint.h>
#define PRESENT 1ull
static uint64_t pool[32768];
static uint32_t used = 1;

static uint32_t below(uint32_t table, uint32_t index) {
  uint64_t *entry = &pool[table * 512 + index];
  if (!(*entry & PRESENT)) *entry = (uint64_t)used++ << 12 | PRESENT;
  return *entry >> 12 & 63;
}

static void map(uint64_t address, uint64_t frame) {
  uint32_t table = 0;
  for (int shift = 39; shift > 12; shift -= 9) table = below(table, address >> shift & 511);
  pool[table * 512 + (address >> 12 & 511)] = frame << 12 | PRESENT;
}

static uint64_t walk(uint64_t address) {
  uint64_t entry = PRESENT;
  for (int shift = 39; shift >= 12; shift -= 9) {
    entry = pool[(entry >> 12 & 63) * 512 + (address >> shift & 511)];
    if (!(entry & PRESENT)) return ~0ull;
  }
  return (entry & ~4095ull) | (address & 4095);
}

void pagewalk_init(void) {
  uint64_t at = 0;
  for (uint32_t i = 0; i < 4096; i++) {
    at = (at + 0x3000) & 0x1ffffff;
    map(at | 0x7f0000000000, i & 31);
  }
}

uint32_t pagewalk_run(uint32_t rounds) {
  uint64_t sum = 0, address = 0x7f0000000123;
  for (uint32_t r = 0; r < rounds; r++) {
    for (uint32_t i = 0; i < 16384; i++) {
      address = 0x7f0000000000 | ((address * 0x5851f42d4c957f2dull + 1) & 0x1ffffff);
      sum = sum * 3 + walk(address);
    }
  }
  return (uint32_t)(sum ^ sum >> 32);
}
