// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

struct Entry {
  uint32_t id;
  uint32_t weight;
};
_Static_assert(sizeof(struct Entry) == 8, "layout");
_Static_assert(offsetof(struct Entry, id) == 0, "layout");
_Static_assert(offsetof(struct Entry, weight) == 4, "layout");

struct Slice_u8 {
  uint8_t *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_u8) == 16, "layout");

struct Window {
  struct Slice_u8 view;
};
_Static_assert(sizeof(struct Window) == 16, "layout");
_Static_assert(offsetof(struct Window, view) == 0, "layout");

struct Slice_Entry {
  struct Entry *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_Entry) == 16, "layout");

struct Slice_FixedArray_u8_3 {
  uint8_t (*data)[3];
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_FixedArray_u8_3) == 16, "layout");

struct Slice_u16 {
  uint16_t *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_u16) == 16, "layout");

struct Slice_u32 {
  uint32_t *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_u32) == 16, "layout");

__attribute__((unused)) static const char trapBlob[] =
  "slices.ts:24:16: range outside the slice\0"
  "slices.ts:27:50: index outside the slice\0"
  "slices.ts:32:17: range outside 16 elements\0"
  "slices.ts:33:15: index outside the slice\0"
  "slices.ts:35:46: index outside the slice\0"
  "slices.ts:35:67: index outside 16 elements\0"
  "slices.ts:41:23: index outside the slice\0"
  "slices.ts:42:10: index outside the slice\0"
  "slices.ts:42:20: index outside the slice\0"
  "slices.ts:43:10: index outside the slice\0"
  "slices.ts:67:17: range outside 16 elements\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  41, // 1
  82, // 2
  125, // 3
  166, // 4
  207, // 5
  250, // 6
  291, // 7
  332, // 8
  373, // 9
  414, // 10
  457,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 11 ? site : 11];
}

static uint32_t part(uint32_t from, uint32_t to, uint32_t i);
static uint32_t view(uint32_t n);
static void turn(struct Slice_u32 list);
static uint32_t reverse(void);
static uint32_t rows(void);
static struct Slice_u8 longer(struct Slice_u8 a, struct Slice_u8 b);
static uint32_t longest(uint32_t n);
static uint32_t proved(void);

#line 13 "slices.ts"
static _Alignas(4) struct Entry entries[5];
static uint8_t memory_[16];

static _Alignas(8) struct Window window;
#line 47
static _Alignas(4) uint32_t digits[6];
#line 56
static uint8_t matrix[4][3];

#line 18
static uint32_t part(uint32_t from, uint32_t to, uint32_t i) {
  for (uint32_t n = 0u; n < 5u; n++) {
    entries[n].id = n + 1u;
    entries[n].weight = n + 2u;
  }
  struct Slice_Entry all = { .data = entries, .length = 5u };
  struct Slice_Entry some = { .data = all.data + checkRange(from, to, all.length, 0), .length = to - from };
  uint32_t total = 0u;
  for (uint32_t i_ = 0u; i_ < some.length; i_++) { struct Entry *one = &some.data[i_]; if (one->id == 2u) { continue; } total += one->weight; }
  return ((total * 1000u) + (some.length * 100u)) + some.data[checkIndex(i, some.length, 1)].id;
}

// Slices lie in structs too: sixteen bytes, the address and the length.
#line 31
static uint32_t view(uint32_t n) {
  window.view = (struct Slice_u8){ .data = memory_ + checkRange(n, 16u, 16u, 2), .length = 16u - n };
  window.view.data[checkIndex(0u, window.view.length, 3)] = 7;
  struct Slice_u16 raw = { .data = (uint16_t *)(uint64_t)memory_, .length = 8u };
  return ((window.view.length * 1000u) + (uint32_t)raw.data[checkIndex(n / 2u, raw.length, 4)]) + (uint32_t)memory_[checkIndex(n, 16, 5)];
}

#line 38
static void turn(struct Slice_u32 list) {
  for (uint32_t i = 0u; i < (list.length / 2u); i++) {
    uint32_t last = (list.length - 1u) - i;
    uint32_t kept = list.data[checkIndex(i, list.length, 6)];
    list.data[checkIndex(i, list.length, 7)] = list.data[checkIndex(last, list.length, 8)];
    list.data[checkIndex(last, list.length, 9)] = kept;
  }
}

#line 48
static uint32_t reverse(void) {
  for (uint32_t i = 0u; i < 6u; i++) { digits[i] = i + 1u; }
  turn((struct Slice_u32){ .data = digits, .length = 6u });
  uint32_t value = 0u;
  for (uint32_t i = 0u; i < 6u; i++) { uint32_t digit = digits[i]; value = (value * 10u) + digit; }
  return value;
}

#line 57
static uint32_t rows(void) {
  uint8_t n = 0;
  { struct Slice_FixedArray_u8_3 list = { .data = matrix + 1u, .length = 2u }; uint32_t i = 0u; for (; i < list.length; i++) { uint8_t *row = list.data[i]; for (uint32_t i_ = 0u; i_ < 3u; i_++) { row[i_] = n; n = (uint8_t)((uint32_t)n + 1u); } } }
  uint32_t sum = 0u;
  for (uint32_t i = 0u; i < 4u; i++) { uint8_t *row = matrix[i]; for (uint32_t i_ = 0u; i_ < 3u; i_++) { uint8_t one = row[i_]; sum += (uint32_t)one; } }
  return sum;
}

#line 65
static struct Slice_u8 longer(struct Slice_u8 a, struct Slice_u8 b) { return (a.length > b.length) ? a : b; }

#line 66
static uint32_t longest(uint32_t n) {
  return longer((struct Slice_u8){ .data = memory_ + checkRange(0u, n, 16u, 10), .length = n - 0u }, (struct Slice_u8){ .data = memory_ + 3u, .length = 5u }).length;
}

// No check is left in either loop.
#line 71
static uint32_t proved(void) {
  struct Slice_u32 list = { .data = digits, .length = 4u };
  uint32_t length = list.length;
  uint32_t sum = 0u;
  for (uint32_t i = 0u; i < list.length; i++) { list.data[i] = i + 1u; }
  for (uint32_t i = 0u; i < length; i++) { sum += list.data[i] + ((i < 4u) ? list.data[i] : 0u); }
  for (uint32_t i = 0u; (i < list.length) && (sum < 28u); i++) { sum += list.data[i]; }
  return sum;
}
