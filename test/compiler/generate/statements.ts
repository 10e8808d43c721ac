/** Random statements: over storage of all kinds, and with what a tag or a comparison with null tells about a variable. */
import { INTS, LENGTH, type TypeName, indented, isInt } from "./choices.ts";
import type { Field, RecordShape, Variant } from "./types.ts";
import { type Text, Values, type Variable } from "./values.ts";

const MAX_DEPTH = 3;

export abstract class Statements extends Values {
  /** What the function that is made gives; null in a method of nothing. */
  protected result: TypeName = "u64";
  /** All loops of a program may come to stand inside one another, by calls. */
  private loopsLeft = 3;

  protected block(depth: number, most: number): string[] {
    const before = this.scope.length;
    const lines: string[] = [];
    const count = 1 + this.choose.below(most);
    for (let i = 0; i < count; i++) lines.push(...this.statement(depth));
    this.scope.length = before;
    return lines;
  }

  /** A block in which more is known. */
  private blockWith(known: readonly Variable[], depth: number, most: number): string[] {
    const before = this.scope.length;
    this.scope.push(...known);
    const lines = indented(this.block(depth, most));
    this.scope.length = before;
    return lines;
  }

  private statement(depth: number): string[] {
    const { choose } = this;
    const simple = [() => this.assignment(), () => this.compound(), () => this.declaration(), () => this.stepping(), () => this.call(), () => this.check(), () => this.memory()];
    const nested = [
      () => this.word(), () => this.branch(depth), () => this.loop(depth), () => this.switching(depth), () => this.storageOnStack(depth), () => this.pointers(depth),
      () => this.overList(depth), () => this.told(depth), () => this.told(depth), () => this.laterValue(depth), () => this.leaving(),
    ];
    return choose.of(depth > 0 ? [...simple, ...nested] : simple)();
  }

  private text(type: TypeName, depth = MAX_DEPTH): string {
    return this.expression(type, depth).text;
  }

  // ---- Variables

  private declaration(): string[] {
    const type = this.types.any();
    const name = this.name("v");
    if (!isInt(type)) return this.declare(name, type, this.opaque(type, 2), this.choose.below(2) === 1);
    const value: Text = this.expression(type, MAX_DEPTH);
    return this.declare(name, type, value.text, this.choose.below(2) === 1 && !value.constant);
  }

  /** A result that may not be ignored is looked at. */
  private declare(name: string, type: TypeName, value: string, fixed: boolean): string[] {
    const lines = [`${fixed ? "const" : "let"} ${name}: ${type} = ${value};`];
    const record = this.types.recordOf(type);
    if (record?.mustUse) lines.push(`g_u64 ^= ${this.types.digest(type, name)};`);
    this.scope.push({ name, type, fixed }, ...this.always(name, record));
    return lines;
  }

  /** Fields that a record has whatever its tag is; only of plain ones, and of plain ones in those. */
  protected always(name: string, record: RecordShape | undefined): Variable[] {
    return record && !record.tag ? this.known(name, record.variants[0]!.fields) : [];
  }

  private known(name: string, fields: readonly Field[]): Variable[] {
    return fields.flatMap((field) => {
      const path = `${name}.${field.name}`;
      return [{ name: path, type: field.type, fixed: true }, ...this.always(path, this.types.recordOf(field.type))];
    });
  }

  private assignment(): string[] {
    const stored = this.choose.rarely(3) ? this.choose.of(["Kind", ...this.statics, ...this.scope].map((one) => (typeof one === "string" ? one : one.fixed || one.type.startsWith("array") || this.isStruct(one.type) ? "Kind" : one.type))) : null;
    const type = stored ?? (this.choose.rarely(6) ? "boolean" : this.choose.of(INTS));
    const place = this.place(type);
    const { text, constant } = this.expression(type, MAX_DEPTH);
    const tooLarge = constant && /\.b\d+$/.test(place); // a constant that a bit field has no room for is refused
    return [`${place} = ${tooLarge ? `same<${type}>(${text})` : text};`];
  }

  private isStruct(type: TypeName): boolean {
    return type === "Outer" || this.types.structs.some((one) => one.name === type);
  }

  private compound(): string[] {
    const type = this.choose.of(INTS);
    const target = this.place(type);
    const op = this.choose.of(["+", "-", "*", "&", "|", "^", "<<", ">>", "/", "%"]);
    const right = op === "<<" || op === ">>" || op === "/" || op === "%" ? this.variable(type) : this.text(type, 2);
    return [`${target} ${op}= ${right};`];
  }

  private stepping(): string[] {
    return [`${this.place(this.choose.of(INTS))}${this.choose.of(["++", "--"])};`];
  }

  private call(): string[] {
    const found = this.functions.length > 0 ? this.choose.of(this.functions) : null;
    if (!found) return this.assignment();
    const mustUse = found.result === "Fault" || this.types.recordOf(found.result)?.mustUse;
    return [mustUse || this.choose.rarely(5) ? `ignore(${this.callOf(found)});` : `${this.callOf(found)};`];
  }

  /** A check that often holds. */
  private check(): string[] {
    if (!this.choose.rarely(3)) return this.assignment();
    const condition = `${this.variable("u32")} ${this.choose.of(["!== 12345", "< 0xf0000000", "=== 7"])}`;
    return [this.choose.of([`assert(${condition});`, `if (!(${condition})) unreachable();`, `if (!(${condition})) stop();`])];
  }

  /** Raw accesses, atomic writes, copies of bytes, swaps. */
  private memory(): string[] {
    const { choose } = this;
    const byte = `u64(${this.variable("u8")} & 56)`;
    const type = choose.of(INTS);
    return choose.of([
      () => [`store16(addressOf(a_u64) + ${byte}, ${this.text("u16", 1)});`],
      () => [`store64(addressOf(a_i64) + ${byte}, ${this.text("u64", 1)});`],
      () => [`store8(addressOf(matrix[1]) + ${this.variable("u64")} % 4n, ${this.text("u8", 1)}); store32(addressOf(tight.y), ${this.text("u32", 1)});`],
      () => [`atomicStore(${choose.of(["g_u64", "one.wide", `a_u64[${this.index()}]`])}, ${this.text("u64", 1)});`],
      () => [`copyBytes(addressOf(a_u64) + u64(${this.variable("u8")} & 7), addressOf(a_u64) + ${this.variable("u64")} % 9n, u64(${this.variable("u16")} & 31));`],
      () => [`fillBytes(addressOf(a_${type}), ${this.variable("u8")}, ${this.variable("u64")} % 8n);`],
      () => [`swapAt(a_${type}, u32(${this.index()}), u32(${this.index()}));`],
    ])();
  }

  /** A variable that every path gives a value before it is read. */
  private laterValue(depth: number): string[] {
    const type = this.choose.of(INTS);
    const name = this.name("d");
    const lines = [
      `let ${name}: ${type};`, `if (${this.condition(1)}) {`, ...indented(this.block(depth - 1, 2)), `  ${name} = ${this.text(type, 2)};`,
      this.choose.rarely(4) ? "} else stop();" : `} else ${name} = ${this.text(type, 2)};`,
    ];
    this.scope.push({ name, type, fixed: false });
    return lines;
  }

  private leaving(): string[] {
    return this.choose.rarely(3) ? [`if (${this.condition(1)} && ${this.variable("u32")} > 77) return ${this.text(this.result, 1)};`] : this.assignment();
  }

  // ---- Branches and loops

  private branch(depth: number): string[] {
    const lines = [`if (${this.condition(MAX_DEPTH)}) {`, ...indented(this.block(depth - 1, 3))];
    if (this.choose.below(2) === 0) return [...lines, "}"];
    return [...lines, "} else {", ...indented(this.block(depth - 1, 3)), "}"];
  }

  private loop(depth: number): string[] {
    if (this.loopsLeft === 0) return this.assignment();
    this.loopsLeft--;
    const i = this.name("at");
    const limit = 1 + this.choose.below(10);
    this.scope.push({ name: i, type: "u32", fixed: true });
    const body = indented(this.block(depth - 1, 3));
    if (this.choose.rarely(3)) body.unshift(`  if (${this.condition(1)}) ${this.choose.of(["continue", "break"])};`);
    this.scope.pop();
    switch (this.choose.below(4)) {
      case 0: return [`for (let ${i}: u32 = 0; ${i} < ${limit}; ${i}++) {`, ...body, "}"];
      case 1: return [`for (let ${i}: u32 = 0, n: u64 = ${this.variable("u64")}; ${i} < ${limit} && n !== 3n; ${i} += 1, n--) {`, ...body, "}"];
      case 2: return [`{ let ${i}: u32 = 0; while (${i} < ${limit}) { ${i}++;`, ...body, "} }"];
      default: return [`{ let ${i}: u32 = 0; do { ${i}++;`, ...body, `} while (${i} < ${limit}); }`];
    }
  }

  /** Over arrays and slices: values, structs, rows; and by an index that the slice's length proves. */
  private overList(depth: number): string[] {
    if (this.loopsLeft === 0) return this.assignment();
    this.loopsLeft--;
    const { choose } = this;
    const x = this.name("x");
    const type = choose.of(INTS);
    const over = (list: string, known: Variable[]): string[] => [`for (const ${x} of ${list}) {`, ...this.blockWith(known, depth - 1, 3), "}"];
    const slice = this.text(`Slice<${type}>`, 1);
    switch (choose.below(6)) {
      case 0: return over(choose.of([`a_${type}`, slice]), [{ name: x, type, fixed: true }]);
      case 1: {
        const inner = ["a: u16", "b: i8", "flag: boolean", "c: u32"].map((field) => field.split(": ")).map(([name, of]) => ({ name: `${x}.${name}`, type: of!, fixed: false }));
        return over(choose.of(["one.inners", "sliceOf(two.inners)", `${this.outer()}.inners`]), inner);
      }
      case 2: return over(`sliceOf(outers, ${this.variable("u32")} & 1, ${2 + choose.below(3)})`, [{ name: x, type: "Outer", fixed: true }]);
      case 3: {
        const y = this.name("y");
        return [`for (const ${x} of matrix) for (const ${y} of ${x}) {`, ...this.blockWith([{ name: y, type: "u8", fixed: true }], depth - 1, 2), "}"];
      }
      case 4: return over("TABLE", [{ name: x, type: "u16", fixed: true }]);
      default: {
        const i = this.name("j");
        const places = [{ name: `${x}[${i}]`, type, fixed: false }, { name: i, type: "u32", fixed: true }];
        const limit = choose.of([`${x}.length`, `${x}.length - 1`, `${x}.length / 2`]);
        return [`const ${x}: Slice<${type}> = ${slice};`, `for (let ${i}: u32 = 0; ${i} < ${limit} && ${i} < 9; ${i}++) {`, ...this.blockWith(places, depth - 1, 2), "}"];
      }
    }
  }

  private switching(depth: number): string[] {
    const { choose } = this;
    const type = choose.of(["Kind", "u32", "u8", "i16", "i64", "u64"]);
    const labels: Record<string, string[]> = {
      Kind: ["Kind.A", "Kind.B", "Kind.C", "Kind.D"], u32: ["0", "1", "0x80", "0xffffffff"], u8: ["255", "7", "0"], i16: ["-1", "0", "-0x8000", "300"], i64: ["-1n", "1n", "0n"], u64: ["0n", "1n << 63n", "5n"],
    };
    const on = type === "Kind" ? this.opaque("Kind", 1) : choose.below(2) === 0 ? this.variable(type) : this.text(type, 1);
    const cases = labels[type]!.map((label, i) => {
      if (i === 1 && choose.below(2) === 1) return `  case ${label}:`;
      return [`  case ${label}: {`, ...indented(indented(this.block(depth - 1, 2))), "    break;", "  }"].join("\n");
    });
    const rest = type === "Kind" && choose.below(2) === 0 ? [] : [`  default: { ${this.assignment()[0]} break; }`];
    return [`switch (${isInt(type) && /^\w+\(.*\)$/.test(on) ? `(${on})` : on}) {`, ...cases, ...rest, "}"];
  }

  // ---- What is known of a record

  /** Takes a tagged record, or what may be null, and goes on by what it is. */
  private told(depth: number): string[] {
    const { choose } = this;
    const tagged = this.types.records.filter((record) => record.tag);
    if (tagged.length === 0 || choose.rarely(6)) return this.toldNull(depth);
    const record = choose.of(tagged);
    const n = this.name("n");
    const lines = [`const ${n}: ${record.name} = ${this.opaque(record.name, 2)};`];
    const variant = choose.of(record.variants);
    const known = this.known(n, variant.fields);
    switch (choose.below(5)) {
      case 0: return [...lines, ...this.byTag(n, record, depth)];
      case 1: {
        const others = record.variants.filter((one) => one !== variant);
        const rest = others.length === 1 ? this.known(n, others[0]!.fields) : [];
        return [...lines, `if (${is(n, record, variant)}) {`, ...this.blockWith(known, depth - 1, 3), "} else {", ...this.blockWith(rest, depth - 1, 2), "}"];
      }
      case 2: {
        lines.push(`if (${isNot(n, record, variant)}) return ${this.text(this.result, 1)};`);
        this.scope.push(...known);
        return lines;
      }
      case 3: {
        const type = choose.of(INTS);
        return [...lines, `${this.place(type)} = ${is(n, record, variant)} ? ${this.knowing(known, () => this.text(type, 2))} : ${this.text(type, 1)};`];
      }
      default: return [...lines, `if (${is(n, record, variant)} && ${this.knowing(known, () => this.condition(2))}) {`, ...this.blockWith(known, depth - 1, 2), "}"];
    }
  }

  private byTag(n: string, record: RecordShape, depth: number): string[] {
    const { choose } = this;
    if (record.variants[0]!.label === "false") {
      const [no, yes] = record.variants;
      return [`if (!${n}.${record.tag}) {`, ...this.blockWith(this.known(n, no!.fields), depth - 1, 2), "} else {", ...this.blockWith(this.known(n, yes!.fields), depth - 1, 2), "}"];
    }
    const some = choose.rarely(3) ? record.variants.slice(1) : record.variants;
    const cases = some.flatMap((variant) => [`  case ${variant.label}: {`, ...indented(this.blockWith(this.known(n, variant.fields), depth - 1, 2)), "    break;", "  }"]);
    const rest = some.length < record.variants.length ? [`  default: { ${this.assignment()[0]} break; }`] : [];
    return [`switch (${n}.${record.tag}) {`, ...cases, ...rest, "}"];
  }

  private toldNull(depth: number): string[] {
    const q = this.name("q");
    const lines = [`const ${q}: Outer | null = ${this.opaque("Outer | null", 1)};`];
    const known = [{ name: q, type: "Outer", fixed: true }];
    return [...lines, `if (${q} !== null) {`, ...this.blockWith(known, depth - 1, 3), "}"];
  }

  private knowing<T>(known: readonly Variable[], work: () => T): T {
    const before = this.scope.length;
    this.scope.push(...known);
    const value = work();
    this.scope.length = before;
    return value;
  }

  // ---- Storage

  private storageOnStack(depth: number): string[] {
    const { choose } = this;
    const name = this.name("k");
    switch (choose.below(4)) {
      case 0: {
        const fields = ["a: u16", "b: i8", "flag: boolean", "c: u32"].map((field) => field.split(": ")).map(([field, of]) => ({ name: `${name}.${field}`, type: of!, fixed: false }));
        return [`{ const ${name}: Inner = zeroed();`, ...this.blockWith(fields, depth - 1, 3), "}"];
      }
      case 1: {
        const type = choose.of(INTS);
        return [`{ const ${name}: FixedArray<${type}, ${LENGTH}> = zeroed();`, ...this.blockWith([{ name, type: `array of ${type}`, fixed: true }], depth - 1, 3), `g_u64 ^= digestSlice(sliceOf(${name})); }`];
      }
      case 2: {
        const type = this.types.stored();
        return [`{ const ${name}: Box<${type}> = zeroed();`, ...this.blockWith([{ name: `${name}.item`, type, fixed: false }, { name: `${name}.count`, type: "u8", fixed: false }], depth - 1, 3), `g_u64 ^= ${this.types.digest(type, `${name}.item`)}; }`];
      }
      default: {
        const struct = this.types.structs.length > 0 ? choose.of(this.types.structs) : null;
        if (!struct) return this.assignment();
        return [`{ const ${name}: ${struct.name} = zeroed();`, ...this.blockWith([{ name, type: struct.name, fixed: true }, ...this.within(name, struct.name)], depth - 1, 3), "}"];
      }
    }
  }

  /** The places in a struct. */
  protected within(name: string, type: TypeName): Variable[] {
    const struct = this.types.structs.find((one) => one.name === type);
    return [
      ...(struct?.fields ?? []).map((field) => ({ name: `${name}.${field.name}`, type: field.type, fixed: false })),
      ...(struct?.arrays ?? []).map((field) => ({ name: `${name}.${field.name}`, type: `array of ${field.type}`, fixed: true })),
    ];
  }

  private pointers(depth: number): string[] {
    const { choose } = this;
    const target = choose.of(["one", "two", "outers[3]"]);
    const p = this.name("q");
    const lines = [`${target}.next = ${choose.of(["two", "null", `outers[${this.index()}]`])};`];
    switch (choose.below(3)) {
      case 0: return [...lines, `const ${p}: Outer | null = follow(${target});`, `if (${p} !== null) {`, ...this.blockWith([{ name: p, type: "Outer", fixed: true }], depth - 1, 2), "}"];
      case 1: {
        const steps = this.name("w");
        return [...lines, `let ${p}: Outer | null = ${target};`, `let ${steps}: u32 = 0;`, `while (${p} !== null && ${steps} < 5) { ${p}.s += ${this.variable("i32")}; ${p} = ${p}.next; ${steps}++; }`];
      }
      default: return [...lines, `const ${p} = least(sliceOf(${target}.inners));`, `if (${p} !== null) { ${p}.c += ${this.variable("u32")}; ${p}.flag = ${this.condition(1)}; }`];
    }
  }

  /** Bit fields, methods, unions, results. */
  private word(): string[] {
    const { choose } = this;
    const small = `${this.variable("u8")}${choose.rarely(4) ? "" : " & 15"}`;
    return choose.of([
      () => [`entry.level = ${small};`],
      () => [`entry.frame ${choose.of(["=", "+=", "^="])} ${this.variable("u64")}${choose.rarely(4) ? "" : " & 0xffffn"};`],
      () => [`entry.type${choose.of(["++", "--"])};`, `entry.top = ${this.condition(1)};`],
      () => [`${this.place("u64")} = entry.raised(${this.text("u8", 2)});`],
      () => [`${this.place("u32")} ^= tight.mixed(${this.text("u32", 2)});`],
      () => [`if (judge(${this.variable("u32")}) !== Verdict.OK) { ${this.place("u16")}++; }`, `ignore(judge(${this.variable("u32")}));`],
      () => [`either.${choose.of(["wide = " + this.variable("u64"), "bytes[5] = " + this.variable("u8"), "flag = " + this.condition(1)])};`, `${this.place("u32")} = either.halves[${this.variable("u32")} & 1];`],
    ])();
  }
}

function is(name: string, { tag }: RecordShape, { label }: Variant): string {
  return label === "true" ? `${name}.${tag}` : label === "false" ? `!${name}.${tag}` : `${name}.${tag} === ${label}`;
}

function isNot(name: string, record: RecordShape, variant: Variant): string {
  return variant.label === "true" ? `!${name}.${record.tag}` : variant.label === "false" ? `${name}.${record.tag}` : `${name}.${record.tag} !== ${variant.label}`;
}
