// Made by the Understudy compiler from the TypeScript that the #line directives name.
#include "runtime.h"

struct Shape {
  uint32_t kind;
  union {
    uint32_t radius;
    struct {
      uint16_t width;
      uint64_t height;
      uint8_t filled;
    } roundRectangle;
  };
};
_Static_assert(sizeof(struct Shape) == 32, "layout");

struct Range {
  uint64_t start;
  uint64_t end;
};
_Static_assert(sizeof(struct Range) == 16, "layout");

struct Canvas {
  struct Shape shape;
  struct Range clip;
  struct Shape history[3];
};
_Static_assert(sizeof(struct Canvas) == 144, "layout");
_Static_assert(offsetof(struct Canvas, shape) == 0, "layout");
_Static_assert(offsetof(struct Canvas, clip) == 32, "layout");
_Static_assert(offsetof(struct Canvas, history) == 48, "layout");

struct Node {
  uint64_t value;
  struct Node *next;
};
_Static_assert(sizeof(struct Node) == 16, "layout");
_Static_assert(offsetof(struct Node, value) == 0, "layout");
_Static_assert(offsetof(struct Node, next) == 8, "layout");

struct Message {
  uint32_t kind;
  union {
    struct {
      uint16_t length;
    } none;
    struct {
      uint64_t code;
      uint16_t length;
    } circle;
    struct {
      uint16_t length;
      uint32_t words;
    } roundRectangle;
  };
};
_Static_assert(sizeof(struct Message) == 24, "layout");

struct Result_u32_Fault {
  uint8_t ok;
  union {
    uint32_t value;
    uint32_t error;
  };
};
_Static_assert(sizeof(struct Result_u32_Fault) == 8, "layout");

struct Result_u64_Fault {
  uint8_t ok;
  union {
    uint64_t value;
    uint32_t error;
  };
};
_Static_assert(sizeof(struct Result_u64_Fault) == 16, "layout");

struct Step {
  uint32_t kind;
  union {
    struct {
      struct Node *node;
      uint32_t left;
    } circle;
  };
};
_Static_assert(sizeof(struct Step) == 24, "layout");

__attribute__((unused)) static const char trapBlob[] =
  "records.ts:42:11: not a member of Kind\0"
  "records.ts:85:22: value outside i64\0"
  "records.ts:89:24: index outside 2 elements\0"
  "records.ts:100:94: index outside 2 elements\0"
  "records.ts:112:75: value outside u32\0"
  "records.ts:123:11: not a member of Kind\0"
  "unknown trap\0";
__attribute__((unused)) static const uint32_t trapOffsets[] = {
  0, // 0
  39, // 1
  75, // 2
  118, // 3
  162, // 4
  199, // 5
  239,
};
__attribute__((unused)) static const char *trapText(uint32_t site) {
  return trapBlob + trapOffsets[site < 6 ? site : 6];
}

static struct Shape make(uint32_t n);
static uint64_t areaOf(struct Shape shape);
static uint64_t area(uint32_t n);
static uint64_t move(uint32_t n);
static struct Result_u32_Fault half(uint32_t n);
static struct Result_u64_Fault quarterOf(uint32_t n);
static int64_t quarter(uint32_t n);
static uint64_t span(uint32_t i);
static uint64_t follow(uint64_t value);
static uint32_t send(struct Message message);
static uint32_t common(uint32_t n);
static uint32_t stale(void);

#line 29 "records.ts"
static _Alignas(8) struct Canvas canvas;
static struct Shape last = { .kind = 1u /* Kind.CIRCLE */, .radius = 1u };
static const _Alignas(8) struct Range LIMITS[2] = {{ .start = 2ul, .end = 10ul }, { .start = 30ul, .end = 40ul }};
#line 95
static _Alignas(8) struct Node nodes[2];

#line 33
static struct Shape make(uint32_t n) {
  if (n == 0u) { return (struct Shape){ .kind = 0u /* Kind.NONE */ }; }
  uint64_t height = (uint64_t)n;
  return (n == 1u) ? ((struct Shape){ .kind = 1u /* Kind.CIRCLE */, .radius = n + 4u }) : ((struct Shape){ .kind = 7u /* Kind.ROUND_RECTANGLE */, .roundRectangle = { .width = (uint16_t)((uint32_t)(uint16_t)n * 2u), .height = height, .filled = n > 3u } });


}

#line 41
static uint64_t areaOf(struct Shape shape) {
  switch (shape.kind) {
    case 0u /* Kind.NONE */: { return 0ul; }
    case 1u /* Kind.CIRCLE */: { return (uint64_t)(shape.radius * shape.radius) * 3ul; }
    case 7u /* Kind.ROUND_RECTANGLE */: {
      uint64_t outer = (uint64_t)shape.roundRectangle.width * shape.roundRectangle.height;
      return (shape.roundRectangle.filled != 0) ? outer : (outer + 6ul);
    }
    default: { onTrap(0); } }
}

#line 52
static uint64_t area(uint32_t n) { return areaOf(make(n)); }

// Records are copied: what was taken out before stays what it was.
#line 55
static uint64_t move(uint32_t n) { uint64_t t1;
  struct Shape before = last;
  last = make(n);
  canvas.history[n % 3u] = last;
  canvas.shape = canvas.history[n % 3u];
  canvas.clip = (t1 = areaOf(before), (struct Range){ .start = t1, .end = areaOf(canvas.shape) * 1000ul });
  uint64_t start = canvas.clip.start;
  last = (struct Shape){ .kind = 1u /* Kind.CIRCLE */, .radius = 1u };
  return canvas.clip.end + start;
}

#line 69
static struct Result_u32_Fault half(uint32_t n) {
  if (n > 1000u) { return (struct Result_u32_Fault){ .ok = false, .error = 1u /* Fault.RANGE */ }; }
  return ((n % 2u) == 0u) ? ((struct Result_u32_Fault){ .ok = true, .value = n / 2u }) : ((struct Result_u32_Fault){ .ok = false, .error = 2u /* Fault.PARITY */ });
}

// What went wrong is handed on as it is.
#line 75
static struct Result_u64_Fault quarterOf(uint32_t n) {
  struct Result_u32_Fault once = half(n);
  if (once.ok == 0) { return (struct Result_u64_Fault){ .ok = false, .error = once.error }; }
  struct Result_u32_Fault twice = half(once.value);
  if (twice.ok == 0) { return (struct Result_u64_Fault){ .ok = false, .error = twice.error }; }
  return (struct Result_u64_Fault){ .ok = true, .value = (uint64_t)twice.value };
}

#line 83
static int64_t quarter(uint32_t n) {
  struct Result_u64_Fault result = quarterOf(n);
  return (result.ok != 0) ? (int64_t)checkUnsigned(result.value, INT64_MAX, 1) : (int64_t)(0u - (uint64_t)(int64_t)result.error);
}

#line 88
static uint64_t span(uint32_t i) {
  struct Range range = LIMITS[checkIndex(i, 2, 2)];
  return range.end - range.start;
}

#line 97
static uint64_t follow(uint64_t value) {
  nodes[1u].value = value;
  struct Step step = { .kind = 1u /* Kind.CIRCLE */, .circle = { .node = &nodes[0u], .left = 1u } };
  while ((step.kind == 1u /* Kind.CIRCLE */) && (step.circle.left > 0u)) { step = (struct Step){ .kind = 1u /* Kind.CIRCLE */, .circle = { .node = &nodes[checkIndex(step.circle.left, 2, 3)], .left = step.circle.left - 1u } }; }
  return (step.kind == 1u /* Kind.CIRCLE */) ? step.circle.node->value : 0ul;
}

#line 109
static uint32_t send(struct Message message) {
  uint32_t size = (uint32_t)(uint16_t)((message.kind == 0u /* Kind.NONE */) ? message.none.length : (uint16_t)((message.kind == 1u /* Kind.CIRCLE */) ? message.circle.length : message.roundRectangle.length));
  if (message.kind == 0u /* Kind.NONE */) { return size; }
  return ((size * 2u) + (uint32_t)(uint16_t)((message.kind == 1u /* Kind.CIRCLE */) ? message.circle.length : message.roundRectangle.length)) + ((message.kind == 1u /* Kind.CIRCLE */) ? (uint32_t)checkUnsigned(message.circle.code, UINT32_MAX, 4) : message.roundRectangle.words);
}

#line 114
static uint32_t common(uint32_t n) {
  if (n == 0u) { return send((struct Message){ .kind = 0u /* Kind.NONE */, .none = { .length = 3 } }); }
  return (n == 1u) ? send((struct Message){ .kind = 1u /* Kind.CIRCLE */, .circle = { .code = 7ul, .length = 4 } }) : send((struct Message){ .kind = 7u /* Kind.ROUND_RECTANGLE */, .roundRectangle = { .length = 300, .words = 108u } });
}

// A tag that is no variant's traps, as a value that is no member of an enumeration does.
#line 120
static uint32_t stale(void) {
  store32((uint64_t)&canvas.shape, 99u);
  struct Shape shape = canvas.shape;
  switch (shape.kind) {
    case 0u /* Kind.NONE */: { return 0u; }
    case 1u /* Kind.CIRCLE */: { return 1u; }
    case 7u /* Kind.ROUND_RECTANGLE */: { return 2u; }
    default: { onTrap(5); } }
}
