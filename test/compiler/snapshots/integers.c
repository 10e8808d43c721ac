// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

__attribute__((unused)) static const char trapBlob[] =
  "integers.ts:23:45: value outside u8\0"
  "integers.ts:25:47: overflow of u32\0"
  "integers.ts:26:54: division by zero\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  36, // 1
  71, // 2
  107,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 3 ? site : 3];
}

static uint8_t wraps(uint8_t a, uint8_t b);
static int8_t signed_(int8_t a);
static uint32_t shifts(uint32_t count);
static uint8_t low(uint32_t a);
static uint8_t narrow(uint32_t a);
static uint32_t checked(uint32_t a);
static int32_t divide(int32_t a, int32_t b);
static uint32_t bits(void);
static uint64_t frameOf(uint64_t address);
static uint64_t frame(uint32_t address);


// Unsigned integers wrap.
#line 13 "integers.ts"
static uint8_t wraps(uint8_t a, uint8_t b) { return (uint8_t)((uint32_t)a + (uint32_t)b); }

// Signed ones are two's complement, and wrap too.
#line 16
static int8_t signed_(int8_t a) { return (int8_t)((uint32_t)a - 1u); }

// A count is taken modulo the width; `>>` is logical on unsigned integers.
#line 19
static uint32_t shifts(uint32_t count) { return (1u << (count & 31u)) + (0x80u >> (count & 31u)); }

// Conversions trap where the value does not fit, or keep the low bits.
#line 22
static uint8_t low(uint32_t a) { return (uint8_t)a; }

#line 23
static uint8_t narrow(uint32_t a) { return (uint8_t)checkUnsigned(a, UINT8_MAX, 0); }

#line 25
static uint32_t checked(uint32_t a) { return addU32(a, 1u, 1); }

#line 26
static int32_t divide(int32_t a, int32_t b) { return divideI32(a, (int32_t)nonZero32((uint32_t)b, 2)); }

#line 31
static uint32_t bits(void) { return 0xffffffffu /* ALL & ((MIB * 0x1000) - 1) */; }

#line 35
static uint64_t frameOf(uint64_t address) { return address >> 12ul; }

#line 36
static uint64_t frame(uint32_t address) { return frameOf((uint64_t)address); }
