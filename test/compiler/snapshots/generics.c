// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

struct Ring_u64_4 {
  uint64_t items[4];
  uint32_t head;
  uint32_t count;
};
_Static_assert(sizeof(struct Ring_u64_4) == 40, "layout");
_Static_assert(offsetof(struct Ring_u64_4, items) == 0, "layout");
_Static_assert(offsetof(struct Ring_u64_4, head) == 32, "layout");
_Static_assert(offsetof(struct Ring_u64_4, count) == 36, "layout");

struct Ring_u8_8 {
  uint8_t items[8];
  uint32_t head;
  uint32_t count;
};
_Static_assert(sizeof(struct Ring_u8_8) == 16, "layout");
_Static_assert(offsetof(struct Ring_u8_8, items) == 0, "layout");
_Static_assert(offsetof(struct Ring_u8_8, head) == 8, "layout");
_Static_assert(offsetof(struct Ring_u8_8, count) == 12, "layout");

struct Process {
  uint32_t id;
  uint32_t weight;
};
_Static_assert(sizeof(struct Process) == 8, "layout");
_Static_assert(offsetof(struct Process, id) == 0, "layout");
_Static_assert(offsetof(struct Process, weight) == 4, "layout");

struct Cell_u16 {
  uint16_t item;
};
_Static_assert(sizeof(struct Cell_u16) == 2, "layout");
_Static_assert(offsetof(struct Cell_u16, item) == 0, "layout");

struct Grid_u16_4_3 {
  struct Cell_u16 rows[3][4];
};
_Static_assert(sizeof(struct Grid_u16_4_3) == 24, "layout");
_Static_assert(offsetof(struct Grid_u16_4_3, rows) == 0, "layout");

struct Option_u64 {
  uint8_t some;
  union {
    uint64_t value;
  };
};
_Static_assert(sizeof(struct Option_u64) == 16, "layout");

struct Option_u8 {
  uint8_t some;
  union {
    uint8_t value;
  };
};
_Static_assert(sizeof(struct Option_u8) == 2, "layout");

struct Slice_Process {
  struct Process *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_Process) == 16, "layout");

struct Slice_u64 {
  uint64_t *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_u64) == 16, "layout");

struct Slice_u8 {
  uint8_t *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_u8) == 16, "layout");

__attribute__((unused)) static const char trapBlob[] =
  "generics.ts:40:8: index outside the slice\0"
  "generics.ts:40:8: index outside the slice\0"
  "generics.ts:50:35: overflow of u64\0"
  "generics.ts:50:35: overflow of u8\0"
  "generics.ts:96:21: index outside 2 elements\0"
  "generics.ts:97:8: index outside 2 elements\0"
  "generics.ts:97:18: index outside 2 elements\0"
  "generics.ts:98:8: index outside 2 elements\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  42, // 1
  84, // 2
  119, // 3
  153, // 4
  197, // 5
  240, // 6
  284, // 7
  327,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 8 ? site : 8];
}

static bool Ring_u64_4_push(struct Ring_u64_4 *this_, uint64_t item);
static struct Option_u64 Ring_u64_4_pop(struct Ring_u64_4 *this_);
static bool Ring_u8_8_push(struct Ring_u8_8 *this_, uint8_t item);
static struct Option_u8 Ring_u8_8_pop(struct Ring_u8_8 *this_);
static uint32_t drain_u64_4(struct Ring_u64_4 *ring, struct Slice_u64 to);
static uint32_t drain_u8_8(struct Ring_u8_8 *ring, struct Slice_u8 to);
static uint64_t larger_u64(uint64_t a, uint64_t b);
static uint8_t larger_u8(uint8_t a, uint8_t b);
static uint64_t sum_u64(struct Slice_u64 list, uint64_t zero);
static uint8_t sum_u8(struct Slice_u8 list, uint8_t zero);
static uint64_t rings(uint32_t n);
static bool Process_before(struct Process *this_, struct Process *other);
static struct Process *least_Process(struct Slice_Process list);
static uint32_t lightest(void);
static uint8_t next_u8(uint8_t value);
static uint32_t pick(uint32_t a, uint8_t b);
static void swapAt_i16_2(int16_t *list, uint32_t a, uint32_t b);
static int32_t swap(void);
static uint32_t count(void);

#line 31 "generics.ts"
static _Alignas(4) struct Ring_u8_8 bytes;
static _Alignas(8) struct Ring_u64_4 words;
#line 73
static _Alignas(4) struct Process table[5];
#line 100
static _Alignas(2) int16_t pair[2];
#line 111
static _Alignas(2) struct Grid_u16_4_3 grid;

#line 12
static bool Ring_u64_4_push(struct Ring_u64_4 *this_, uint64_t item) {
  if (this_->count == 4u) { return false; }
  this_->items[(this_->head + this_->count) % 4u] = item;
  this_->count++;
  return true;
}

#line 19
static struct Option_u64 Ring_u64_4_pop(struct Ring_u64_4 *this_) {
  if (this_->count == 0u) { return (struct Option_u64){ .some = false }; }
  uint64_t item = this_->items[this_->head % 4u];
  this_->head = (this_->head + 1u) % 4u;
  this_->count--;
  return (struct Option_u64){ .some = true, .value = item };
}

#line 12
static bool Ring_u8_8_push(struct Ring_u8_8 *this_, uint8_t item) {
  if (this_->count == 8u) { return false; }
  this_->items[(this_->head + this_->count) % 8u] = item;
  this_->count++;
  return true;
}

#line 19
static struct Option_u8 Ring_u8_8_pop(struct Ring_u8_8 *this_) {
  if (this_->count == 0u) { return (struct Option_u8){ .some = false }; }
  uint8_t item = this_->items[this_->head % 8u];
  this_->head = (this_->head + 1u) % 8u;
  this_->count--;
  return (struct Option_u8){ .some = true, .value = item };
}

// Type arguments are inferred from arguments, or written out.
#line 35
static uint32_t drain_u64_4(struct Ring_u64_4 *ring, struct Slice_u64 to) {
  uint32_t n = 0u;
  while (n < to.length) {
    struct Option_u64 next = Ring_u64_4_pop(ring);
    if (next.some == 0) { break; }
    to.data[checkIndex(n, to.length, 0)] = next.value;
    n++;
  }
  return n;
}

// Type arguments are inferred from arguments, or written out.
#line 35
static uint32_t drain_u8_8(struct Ring_u8_8 *ring, struct Slice_u8 to) {
  uint32_t n = 0u;
  while (n < to.length) {
    struct Option_u8 next = Ring_u8_8_pop(ring);
    if (next.some == 0) { break; }
    to.data[checkIndex(n, to.length, 1)] = next.value;
    n++;
  }
  return n;
}

#line 46
static uint64_t larger_u64(uint64_t a, uint64_t b) { return (a > b) ? a : b; }

#line 46
static uint8_t larger_u8(uint8_t a, uint8_t b) { return (uint8_t)((a > b) ? a : b); }

#line 48
static uint64_t sum_u64(struct Slice_u64 list, uint64_t zero) {
  uint64_t total = zero;
  for (uint32_t i = 0u; i < list.length; i++) { uint64_t one = list.data[i]; total = addU64(total, one, 2); }
  return total;
}

#line 48
static uint8_t sum_u8(struct Slice_u8 list, uint8_t zero) {
  uint8_t total = zero;
  for (uint32_t i = 0u; i < list.length; i++) { uint8_t one = list.data[i]; total = addU8(total, one, 3); }
  return total;
}

#line 54
static uint64_t rings(uint32_t n) {
  for (uint32_t i = 0u; i < n; i++) { if (!Ring_u8_8_push(&bytes, (uint8_t)(i * 7u))) { break; } }
  for (uint32_t i = 0u; i < n; i++) { if (!Ring_u64_4_push(&words, (uint64_t)i * 5ul)) { break; } }
  uint8_t narrow[6] = {0};
  uint32_t fromBytes = drain_u8_8(&bytes, (struct Slice_u8){ .data = narrow, .length = 6u });
  uint64_t wide[6] = {0};
  uint32_t fromWords = drain_u64_4(&words, (struct Slice_u64){ .data = wide + 1u, .length = 4u });
  uint64_t largest = larger_u64(sum_u64((struct Slice_u64){ .data = wide, .length = 6u }, 0ul), 1ul);
  return ((((uint64_t)fromBytes * 1000000ul) + ((uint64_t)fromWords * 100000ul)) + (uint64_t)larger_u8(sum_u8((struct Slice_u8){ .data = narrow, .length = 6u }, 0), 3)) + (largest * 300ul);
}

#line 71
static bool Process_before(struct Process *this_, struct Process *other) { return this_->weight < other->weight; }

#line 75
static struct Process *least_Process(struct Slice_Process list) {
  struct Process *found = NULL;
  for (uint32_t i = 0u; i < list.length; i++) { struct Process *one = &list.data[i]; if ((found == NULL) || Process_before(one, found)) { found = one; } }
  return found;
}

#line 81
static uint32_t lightest(void) {
  for (uint32_t i = 0u; i < 5u; i++) {
    table[i].id = i + 1u;
    table[i].weight = ((i * 7u) + 3u) % 5u;
  }
  struct Process *found = least_Process((struct Slice_Process){ .data = table, .length = 5u });
  return (found == NULL) ? 0u : found->id;
}

// `as T` tells tsc that a sum of a type parameter is one; it converts nothing.
#line 91
static uint8_t next_u8(uint8_t value) { return (uint8_t)((uint32_t)value + 1u); }

#line 93
static uint32_t pick(uint32_t a, uint8_t b) { return (uint32_t)larger_u8(next_u8(b), (uint8_t)a) - 1u; }

#line 95
static void swapAt_i16_2(int16_t *list, uint32_t a, uint32_t b) {
  int16_t kept = list[checkIndex(a, 2, 4)];
  list[checkIndex(a, 2, 5)] = list[checkIndex(b, 2, 6)];
  list[checkIndex(b, 2, 7)] = kept;
}

#line 102
static int32_t swap(void) {
  pair[0u] = 1;
  pair[1u] = 2;
  swapAt_i16_2(pair, 0u, 1u);
  return (int32_t)((uint32_t)(int32_t)((uint32_t)(int32_t)pair[0u] * 100u) + (uint32_t)(int32_t)pair[1u]);
}

#line 113
static uint32_t count(void) {
  uint32_t n = 0u;
  for (uint32_t i = 0u; i < 3u; i++) { struct Cell_u16 *row = grid.rows[i]; for (uint32_t i_ = 0u; i_ < 4u; i_++) { struct Cell_u16 *cell = &row[i_]; n += (uint32_t)cell->item + 1u; } }
  return n;
}
