#include <stdbool.h>
#include <stdint.h>
static uint8_t bitmap[4096];

static bool exits(uint32_t index, bool write) {
  uint32_t half = write ? 2048 : 0;
  bool high = index >= 0xc0000000;
  uint32_t bit = high ? index - 0xc0000000 : index;
  if (bit > 0x1fff) return true;
  return bitmap[half + (high ? 1024 : 0) + (bit >> 3)] >> (bit & 7) & 1;
}

void msrbitmap_init(void) {
  for (uint32_t i = 0; i < 4096; i++) bitmap[i] = (uint8_t)(i * 2654435761u >> 13);
}

uint32_t msrbitmap_run(uint32_t rounds) {
  uint32_t count = 0, seed = 1;
  for (uint32_t r = 0; r < rounds; r++) {
    for (uint32_t i = 0; i < 65536; i++) {
      seed = seed * 1664525 + 1013904223;
      if (exits((seed & 0xc0000000) | (seed >> 8 & 0x3fff), seed & 16)) count++;
    }
  }
  return count;
}
