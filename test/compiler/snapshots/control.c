// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

__attribute__((unused)) static const char trapBlob[] =
  "control.ts:29:11: not a member of State\0"
  "control.ts:52:3: assertion failed: n !== 0\0"
  "control.ts:61:3: unreachable\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  40, // 1
  83, // 2
  112,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 3 ? site : 3];
}

static uint32_t loops(uint32_t n);
static const char *name(uint32_t n);
static uint32_t classify(uint8_t n);
static uint32_t bump(void);
static uint32_t order(uint32_t n);
static uint32_t guarded(uint32_t n);
static uint32_t later(bool flag);
static uint32_t never(bool flag);

#line 46 "control.ts"
static uint32_t state = 0u;

#line 12
static uint32_t loops(uint32_t n) {
  uint32_t sum = 0u;
  for (uint32_t i = 0u; i < n; i++) {
    if (i == 3u) { continue; }
    if (i == 8u) { break; }
    sum += i;
  }
  uint32_t left = n;
  while (left > 0u) { left--; }
  do { left++; } while (left < 2u);
  return (sum * 10u) + left;
}

// Every member, or a default.
#line 27
static const char *name(uint32_t n) {
  uint32_t state_ = n;
  switch (state_) {
    case 0u /* State.FREE */: { return "free"; }
    case 1u /* State.USED */: { return "used"; }
    default: { onTrap(0); } }
}

#line 35
static uint32_t classify(uint8_t n) {
  uint32_t result = 0u;
  switch (n) {
    case 1: case 2: {
      result = 20u /* ten * 2 */; break; }
    case 3: { result = 30u; break; }
    default: { break; }
  }
  return result;
}

#line 47
static uint32_t bump(void) { state++; return state; }

// From left to right, also where C would choose.
#line 49
static uint32_t order(uint32_t n) { uint32_t t1; uint32_t t2; state = n; return (t2 = (t1 = state * 100u, t1 + (bump() * 10u)), t2 + bump()); }

#line 51
static uint32_t guarded(uint32_t n) {
  if (!(n != 0u)) { onTrap(1); }
  return n;
}

// tsc sees that every path gives it a value.
#line 57
static uint32_t later(bool flag) { uint32_t x = 0; if (flag) { x = 1u; } else { x = 2u; } return x; }

#line 59
static uint32_t never(bool flag) {
  if (flag) { return 1u; }
  onTrap(2);
}
