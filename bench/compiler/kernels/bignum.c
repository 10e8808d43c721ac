#include <stdint.h>
static uint64_t a[64], b[64], product[128];

static void multiply(void) {
  for (int i = 0; i < 128; i++) product[i] = 0;
  for (int i = 0; i < 64; i++) {
    uint64_t carry = 0, x = a[i];
    for (int j = 0; j < 64; j++) {
      uint64_t sum = product[i + j] + x * b[j] + carry;
      product[i + j] = sum & 0xffffffff;
      carry = sum >> 32;
    }
    product[i + 64] = carry;
  }
}

void bignum_init(void) {
  uint32_t seed = 3;
  for (int i = 0; i < 64; i++) {
    a[i] = seed = seed * 1664525 + 1013904223;
    b[i] = seed ^ 0x9e3779b9;
  }
}

uint32_t bignum_run(uint32_t rounds) {
  for (uint32_t r = 0; r < rounds; r++) {
    multiply();
    a[r & 63] = product[(r & 63) + 64];
  }
  return (uint32_t)(product[5] ^ product[100]);
}
