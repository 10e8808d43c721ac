// What the generated C stands on: checks, raw memory, atomics. Freestanding, x86-64.
#ifndef UNDERSTUDY_RUNTIME_H
#define UNDERSTUDY_RUNTIME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// x86 does unaligned accesses, and packed structs are what firmware and hardware define.
#pragma GCC diagnostic ignored "-Waddress-of-packed-member"
// What the source says for one width or twice the same is its own business; both sides have one type always.
#pragma GCC diagnostic ignored "-Wtype-limits"
#pragma GCC diagnostic ignored "-Wtautological-compare"
#pragma GCC diagnostic ignored "-Wsign-compare"
// An assignment of a thing to itself is the source's own business too; gcc does not know this one.
#ifdef __clang__
#pragma clang diagnostic ignored "-Wself-assign"
#endif
// Changes of sign are casts in the output; gcc 12 warns of some of these casts all the same.
#pragma GCC diagnostic ignored "-Wsign-conversion"

#define RUNTIME static inline __attribute__((always_inline, unused))
#define UNLIKELY(condition) __builtin_expect((condition), 0)

_Noreturn void onTrap(uint32_t site);

// ---- Checks. A failed one never returns.

RUNTIME uint32_t checkIndex(uint32_t index, uint32_t length, uint32_t site) {
  if (UNLIKELY(index >= length)) onTrap(site);
  return index;
}

RUNTIME uint32_t checkRange(uint32_t from, uint32_t to, uint32_t length, uint32_t site) {
  if (UNLIKELY(from > to || to > length)) onTrap(site);
  return from;
}

RUNTIME void *checkNull(void *pointer, uint32_t site) {
  if (UNLIKELY(pointer == NULL)) onTrap(site);
  return pointer;
}

RUNTIME uint64_t checkUnsigned(uint64_t value, uint64_t max, uint32_t site) {
  if (UNLIKELY(value > max)) onTrap(site);
  return value;
}

RUNTIME int64_t checkSigned(int64_t value, int64_t min, int64_t max, uint32_t site) {
  if (UNLIKELY(value < min || value > max)) onTrap(site);
  return value;
}

#define NON_ZERO(bits) \
  RUNTIME uint##bits##_t nonZero##bits(uint##bits##_t value, uint32_t site) { \
    if (UNLIKELY(value == 0)) onTrap(site); \
    return value; \
  }
NON_ZERO(8)
NON_ZERO(16)
NON_ZERO(32)
NON_ZERO(64)

// Arithmetic that traps instead of wrapping.
#define CHECKED(name, builtin, letter, type) \
  RUNTIME type name##letter(type a, type b, uint32_t site) { \
    type result; \
    if (UNLIKELY(builtin(a, b, &result))) onTrap(site); \
    return result; \
  }
#define CHECKED_ARITHMETIC(letter, type) \
  CHECKED(add, __builtin_add_overflow, letter, type) \
  CHECKED(sub, __builtin_sub_overflow, letter, type) \
  CHECKED(mul, __builtin_mul_overflow, letter, type)
CHECKED_ARITHMETIC(U8, uint8_t)
CHECKED_ARITHMETIC(U16, uint16_t)
CHECKED_ARITHMETIC(U32, uint32_t)
CHECKED_ARITHMETIC(U64, uint64_t)
CHECKED_ARITHMETIC(I8, int8_t)
CHECKED_ARITHMETIC(I16, int16_t)
CHECKED_ARITHMETIC(I32, int32_t)
CHECKED_ARITHMETIC(I64, int64_t)

// The least value divided by -1 wraps, where the processor would fault.
#define SIGNED_DIVISION(bits) \
  RUNTIME int##bits##_t divideI##bits(int##bits##_t a, int##bits##_t b) { \
    return (int##bits##_t)(b == -1 ? (int##bits##_t)(0 - (uint##bits##_t)a) : a / b); \
  } \
  RUNTIME int##bits##_t remainderI##bits(int##bits##_t a, int##bits##_t b) { \
    return (int##bits##_t)(b == -1 ? 0 : a % b); \
  }
SIGNED_DIVISION(8)
SIGNED_DIVISION(16)
SIGNED_DIVISION(32)
SIGNED_DIVISION(64)

// ---- Raw memory: exactly one access each.

#define RAW_ACCESS(bits) \
  RUNTIME uint##bits##_t load##bits(uint64_t address) { return *(const volatile uint##bits##_t *)address; } \
  RUNTIME void store##bits(uint64_t address, uint##bits##_t value) { *(volatile uint##bits##_t *)address = value; }
RAW_ACCESS(8)
RAW_ACCESS(16)
RAW_ACCESS(32)
RAW_ACCESS(64)

RUNTIME void fillBytes(uint64_t at, uint8_t value, uint64_t count) {
  const uint64_t word = value * 0x0101010101010101u;
  uint64_t words = count / 8;
  uint64_t rest = count % 8;
  __asm__ volatile("rep stosq" : "+D"(at), "+c"(words) : "a"(word) : "memory");
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(rest) : "a"(word) : "memory");
}

RUNTIME void copyBytes(uint64_t to, uint64_t from, uint64_t count) {
  if (to - from >= count) {
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
  } else { // `to` lies within the source: from the end
    to += count - 1;
    from += count - 1;
    __asm__ volatile("std\n\trep movsb\n\tcld" : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc");
  }
}

// ---- Sequentially consistent operations.

#define ATOMICS(bits) \
  RUNTIME uint##bits##_t atomicLoad##bits(const uint##bits##_t *at) { return __atomic_load_n(at, __ATOMIC_SEQ_CST); } \
  RUNTIME void atomicStore##bits(uint##bits##_t *at, uint##bits##_t value) { __atomic_store_n(at, value, __ATOMIC_SEQ_CST); } \
  RUNTIME uint##bits##_t atomicAdd##bits(uint##bits##_t *at, uint##bits##_t value) { return __atomic_fetch_add(at, value, __ATOMIC_SEQ_CST); } \
  RUNTIME uint##bits##_t atomicExchange##bits(uint##bits##_t *at, uint##bits##_t value) { return __atomic_exchange_n(at, value, __ATOMIC_SEQ_CST); }
ATOMICS(32)
ATOMICS(64)

// ---- Strings.

RUNTIME uint8_t byteAt(const char *text, uint32_t index) {
  for (uint32_t i = 0; i < index; i++) {
    if (text[i] == '\0') return 0;
  }
  return (uint8_t)text[index];
}

// ---- What gcc calls by itself.

#ifndef UNDERSTUDY_HOSTED
void *memcpy(void *to, const void *from, size_t count);
void *memmove(void *to, const void *from, size_t count);
void *memset(void *at, int value, size_t count);

__attribute__((weak)) void *memcpy(void *to, const void *from, size_t count) {
  copyBytes((uint64_t)to, (uint64_t)from, count);
  return to;
}

__attribute__((weak)) void *memmove(void *to, const void *from, size_t count) {
  copyBytes((uint64_t)to, (uint64_t)from, count);
  return to;
}

__attribute__((weak)) void *memset(void *at, int value, size_t count) {
  fillBytes((uint64_t)at, (uint8_t)value, count);
  return at;
}
#endif

#endif
