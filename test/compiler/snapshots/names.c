// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

struct int_ {
  uint32_t double_;
  uint32_t register_;
  uint8_t auto_;
  uint8_t short_;
  uint8_t long_[2];
};
_Static_assert(sizeof(struct int_) == 12, "layout");
_Static_assert(offsetof(struct int_, double_) == 0, "layout");
_Static_assert(offsetof(struct int_, register_) == 4, "layout");
_Static_assert(offsetof(struct int_, auto_) == 8, "layout");
_Static_assert(offsetof(struct int_, short_) == 9, "layout");
_Static_assert(offsetof(struct int_, long_) == 10, "layout");

struct uint32_t_ {
  uint32_t bool_;
  uint32_t signed_;
};
_Static_assert(sizeof(struct uint32_t_) == 8, "layout");
_Static_assert(offsetof(struct uint32_t_, bool_) == 0, "layout");
_Static_assert(offsetof(struct uint32_t_, signed_) == 4, "layout");

struct Slice_u8 {
  uint32_t data;
};
_Static_assert(sizeof(struct Slice_u8) == 4, "layout");
_Static_assert(offsetof(struct Slice_u8, data) == 0, "layout");

struct Slice_u82 {
  uint8_t *data;
  uint32_t length;
};
_Static_assert(sizeof(struct Slice_u82) == 16, "layout");

struct struct_ {
  uint32_t union_;
  uint64_t static_;
};
_Static_assert(sizeof(struct struct_) == 16, "layout");

__attribute__((unused)) static const char trapBlob[] =
  "names.ts:34:60: overflow of u32\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  32,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 1 ? site : 1];
}

static uint32_t inline_(uint32_t extern_, uint32_t goto_);
static uint32_t inline_2(void);
static uint32_t main_(void);
static uint32_t UNLIKELY_(uint32_t sizeof_);
static uint32_t checkIndex_(uint32_t a);
static uint32_t addU32_(uint32_t t1, uint32_t checkRange_);
static uint32_t all(uint32_t char_);

#line 7 "names.ts"
static _Alignas(4) struct int_ volatile_;
static _Alignas(4) struct uint32_t_ memcpy_;
static _Alignas(4) struct Slice_u8 size_t_;
static uint8_t real[3];
static uint32_t INT32_MAX_ = 4u;
static uint32_t NULL_ = 7u;

#line 14
static uint32_t inline_(uint32_t extern_, uint32_t goto_) {
  uint32_t restrict_ = extern_ + goto_;
  uint32_t unsigned_ = restrict_;
  unsigned_++;
  return unsigned_;
}

#line 20
static uint32_t inline_2(void) { return 1u; }

#line 21
static uint32_t main_(void) { return 3u; }

#line 22
static uint32_t UNLIKELY_(uint32_t sizeof_) { return sizeof_ + 1u; }

#line 23
static uint32_t checkIndex_(uint32_t a) { return a + 100u; }

#line 24
static uint32_t addU32_(uint32_t t1, uint32_t checkRange_) { return inline_(t1, main_()) + checkRange_; }

#line 26
static uint32_t all(uint32_t char_) { uint32_t t1; uint32_t t2; uint32_t t3; uint32_t t4; uint32_t t5; uint32_t t6; uint32_t t7; uint32_t t8; uint32_t t9; uint32_t t10; uint32_t t11;
  struct struct_ float_ = { .union_ = char_, .static_ = 5ul };
  volatile_.double_ = char_;
  volatile_.long_[1u] = 3;
  memcpy_.bool_ = volatile_.double_;
  struct Slice_u82 s = { .data = real, .length = 3u };
  size_t_.data = s.length;
  return (t11 = (t10 = (t9 = (t8 = (t7 = (t6 = (t5 = (t4 = (t3 = (t2 = (t1 = inline_(memcpy_.bool_, float_.union_), t1 + main_()), t2 + INT32_MAX_), t3 + NULL_), t4 + UNLIKELY_(1u)), t5 + (inline_2() * 3u)), t6 + checkIndex_(3u)), t7 + addU32_(1u, 2u)), t8 + size_t_.data), t9 + (uint32_t)volatile_.long_[1u]), t10 + addU32(char_, 1u, 0)), t11 + (uint32_t)real[char_ & 1u]);

}
