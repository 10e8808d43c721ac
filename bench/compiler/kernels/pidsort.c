#include <stdint.h>
static uint32_t pids[4096];

static void sink(uint32_t at, uint32_t end) {
  while (at * 2 + 1 < end) {
    uint32_t child = at * 2 + 1;
    if (child + 1 < end && pids[child] < pids[child + 1]) child++;
    if (pids[at] >= pids[child]) return;
    uint32_t pid = pids[at];
    pids[at] = pids[child];
    pids[child] = pid;
    at = child;
  }
}

void pidsort_init(void) { pids[0] = 1; }

uint32_t pidsort_run(uint32_t rounds) {
  uint32_t sum = 0;
  for (uint32_t r = 0; r < rounds; r++) {
    uint32_t seed = r + 1;
    for (uint32_t i = 0; i < 4096; i++) pids[i] = (seed = seed * 1664525 + 1013904223) >> 10;
    for (uint32_t i = 2048; i > 0; i--) sink(i - 1, 4096);
    for (uint32_t end = 4095; end > 0; end--) {
      uint32_t pid = pids[0];
      pids[0] = pids[end];
      pids[end] = pid;
      sink(0, end);
    }
    for (uint32_t i = 0; i < 4096; i++) sum = sum * 31 + pids[i];
  }
  return sum;
}
