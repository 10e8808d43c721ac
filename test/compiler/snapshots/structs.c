// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

struct Inner {
  uint16_t x;
  int16_t y;
  uint32_t z;
};
_Static_assert(sizeof(struct Inner) == 8, "layout");
_Static_assert(offsetof(struct Inner, x) == 0, "layout");
_Static_assert(offsetof(struct Inner, y) == 2, "layout");
_Static_assert(offsetof(struct Inner, z) == 4, "layout");

struct Outer {
  uint8_t id;
  uint8_t used;
  uint16_t reserved;
  uint32_t kind;
  struct Inner inner;
  uint16_t rows[4][2];
  struct Outer *next;
};
_Static_assert(sizeof(struct Outer) == 40, "layout");
_Static_assert(offsetof(struct Outer, id) == 0, "layout");
_Static_assert(offsetof(struct Outer, used) == 1, "layout");
_Static_assert(offsetof(struct Outer, reserved) == 2, "layout");
_Static_assert(offsetof(struct Outer, kind) == 4, "layout");
_Static_assert(offsetof(struct Outer, inner) == 8, "layout");
_Static_assert(offsetof(struct Outer, rows) == 16, "layout");
_Static_assert(offsetof(struct Outer, next) == 32, "layout");

struct Header {
  uint8_t revision;
  uint32_t address;
  uint16_t length;
} __attribute__((packed));
_Static_assert(sizeof(struct Header) == 7, "layout");
_Static_assert(offsetof(struct Header, revision) == 0, "layout");
_Static_assert(offsetof(struct Header, address) == 1, "layout");
_Static_assert(offsetof(struct Header, length) == 5, "layout");

struct Entry {
  uint64_t bits;
};
_Static_assert(sizeof(struct Entry) == 8, "layout");
_Static_assert(offsetof(struct Entry, bits) == 0, "layout");

struct Word {
  union {
    uint32_t value;
    uint16_t halves[2];
  };
};
_Static_assert(sizeof(struct Word) == 4, "layout");
_Static_assert(offsetof(struct Word, value) == 0, "layout");
_Static_assert(offsetof(struct Word, halves) == 0, "layout");

struct PerCpu {
  uint64_t count;
  uint8_t rest[56];
} __attribute__((aligned(64)));
_Static_assert(sizeof(struct PerCpu) == 64, "layout");
_Static_assert(offsetof(struct PerCpu, count) == 0, "layout");
_Static_assert(offsetof(struct PerCpu, rest) == 8, "layout");

struct Counter {
  uint32_t total;
};
_Static_assert(sizeof(struct Counter) == 4, "layout");
_Static_assert(offsetof(struct Counter, total) == 0, "layout");

__attribute__((unused)) static const char trapBlob[] =
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 0 ? site : 0];
}

static uint32_t fill(uint32_t n);
static uint32_t packed(void);
static uint32_t bytes(void);
static uint64_t entry(uint32_t n);
static uint32_t alias(uint16_t low);
static uint32_t list(void);
static uint64_t aligned(void);
static void Counter_add(struct Counter *this_, uint32_t n);
static uint32_t Counter_twice(struct Counter *this_, uint32_t n);
static uint32_t sum(uint32_t n);

#line 17 "structs.ts"
static _Alignas(8) struct Outer outers[3];
static struct Outer *head;
#line 32
static struct Header header;
#line 47
static _Alignas(4096) struct Entry table[2];
#line 59
static _Alignas(4) struct Word word;
#line 81
static _Alignas(64) struct PerCpu perCpu[4];

#line 20
static uint32_t fill(uint32_t n) {
  struct Outer *outer = &outers[1u];
  outer->id = (uint8_t)n;
  outer->used = n > 2u;
  outer->kind = 4u /* Kind.USED */;
  outer->inner.y = (-3);
  outer->rows[n & 3u][1u] = (uint16_t)((uint32_t)outer->rows[n & 3u][1u] + 7u);
  return ((outer->used != 0) && (outer->kind == 4u /* Kind.USED */)) ? (uint32_t)outer->id : (uint32_t)outer->rows[0u][1u];
}

#line 33
static uint32_t packed(void) {
  header.address = 0x12345678u;
  return load32((uint64_t)&header + 1ul) >> 16u;
}

#line 38
static uint32_t bytes(void) {
  _Alignas(16) uint8_t buffer[4] = {0};
  buffer[0u] = 1;
  buffer[1u] = 2;
  return load32((uint64_t)buffer);
}

#line 48
static uint64_t entry(uint32_t n) {
  struct Entry *one = &table[n & 1u];
  one->bits = 0ul;
  one->bits = (one->bits & 0xfffffffffffffffeul) | 1ul;
  one->bits = (one->bits & 0xfffffffffffffffdul) | ((uint64_t)((one->bits & 1ul) != 0ul) << 1ul);
  one->bits = (one->bits & 0xfff0000000000ffful) | 0x7000000000ul;
  return one->bits;
}

#line 60
static uint32_t alias(uint16_t low) {
  word.halves[1u] = 0x3f80;
  word.halves[0u] = low;
  return word.value;
}

#line 66
static uint32_t list(void) {
  head = NULL;
  for (uint32_t i = 0u; i < 3u; i++) {
    struct Outer *outer = &outers[i];
    outer->inner.z = (i + 1u) * 10u;
    outer->next = head;
    head = outer;
  }
  uint32_t total = 0u;
  for (struct Outer *outer = head; outer != NULL; outer = outer->next) { total += outer->inner.z; }
  return total;
}

#line 82
static uint64_t aligned(void) { return ((uint64_t)&perCpu[0u] | (uint64_t)&perCpu[3u]) & 63ul; }

#line 86
static void Counter_add(struct Counter *this_, uint32_t n) { this_->total += n; }

#line 87
static uint32_t Counter_twice(struct Counter *this_, uint32_t n) { Counter_add(this_, n); Counter_add(this_, n); return this_->total; }

#line 89
static uint32_t sum(uint32_t n) {
  struct Counter counter = {0};
  Counter_add(&counter, 1u);
  return Counter_twice(&counter, n);
}
