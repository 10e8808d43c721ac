#include <stdint.h>
static uint32_t table[256];
static uint8_t buffer[65536];

void crc32_init(void) {
  for (uint32_t i = 0; i < 256; i++) {
    uint32_t c = i;
    for (int k = 0; k < 8; k++) c = c & 1 ? c >> 1 ^ 0xedb88320 : c >> 1;
    table[i] = c;
  }
  for (uint32_t i = 0; i < sizeof buffer; i++) buffer[i] = (uint8_t)(i * 7 + (i >> 8));
}

uint32_t crc32_run(uint32_t rounds) {
  uint32_t sum = 0;
  for (uint32_t r = 0; r < rounds; r++) {
    uint32_t crc = ~sum;
    for (uint32_t i = 0; i < sizeof buffer; i++) crc = crc >> 8 ^ table[(crc ^ buffer[i]) & 255];
    sum = ~crc;
  }
  return sum;
}
