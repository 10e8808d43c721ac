// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

struct Entry {
  uint32_t key;
  uint8_t used;
  uint8_t reserved[3];
  struct Entry *next;
};
_Static_assert(sizeof(struct Entry) == 16, "layout");
_Static_assert(offsetof(struct Entry, key) == 0, "layout");
_Static_assert(offsetof(struct Entry, used) == 4, "layout");
_Static_assert(offsetof(struct Entry, reserved) == 5, "layout");
_Static_assert(offsetof(struct Entry, next) == 8, "layout");

__attribute__((unused)) static const char trapBlob[] =
  "list.ts:30:36: index outside 3 elements\0"
  "main.ts:17:31: value outside u8\0"
  "main.ts:12:11: not a member of Order\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  40, // 1
  72, // 2
  109,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 3 ? site : 3];
}

static bool add(uint32_t key);
static uint32_t weigh(uint32_t at);
void port(uint8_t value);
uint32_t order(uint32_t what, uint32_t value);
_Noreturn void onTrap(uint32_t site);

#line 9 "list.ts"
static _Alignas(64) struct Entry entries[4];
static const _Alignas(2) uint16_t WEIGHTS[3] = {1, 10, 100};
static struct Entry *head;

// Puts a key at the front; false if there is no room.
#line 14
static bool add(uint32_t key) {
  for (uint32_t i = 0u; i < 4u /* LIMIT */; i++) {
    struct Entry *entry = &entries[i];
    if (entry->used != 0) { continue; }
    entry->key = key;
    entry->used = true;
    entry->next = head;
    head = entry;
    return true;
  }
  return false;
}

#line 27
static uint32_t weigh(uint32_t at) {
  uint32_t sum = 0u;
  for (struct Entry *entry = head; entry != NULL; entry = entry->next) {
    sum += entry->key * (uint32_t)WEIGHTS[checkIndex(at, 3, 0)];
  }
  return sum;
}

// Does what it is told.
#line 11 "main.ts"
uint32_t order(uint32_t what, uint32_t value) {
  switch (what) {
    case 0u /* Order.ADD */: {
      return add(value) ? 1u : 0u; }
    case 5u /* Order.WEIGH */: {
      uint32_t weight = weigh(value);
      if (weight > 1000u) { port((uint8_t)checkUnsigned(weight >> 8u, UINT8_MAX, 1));
      } else { port(0); }
      return weight;
    }
    default: { onTrap(2); } }
}

#line 25
_Noreturn void onTrap(uint32_t site) {
  for (uint32_t i = 0u; byteAt(trapText(site), i) != 0; i++) { port(byteAt(trapText(site), i)); }
  while (true) { }
}
