/**
 * Random well-typed programs: every construct that has a meaning at run time, over storage of all kinds. A program is
 * made of a list of numbers, one for each choice, so that fast-check can make a failing one small: 0 is the simplest
 * choice, and a list that has ended goes on with it.
 */

const INTS = ["u32", "u64", "u8", "u16", "i8", "i16", "i32", "i64"] as const;
type Int = (typeof INTS)[number];
type Kind = Int | "boolean";

const LENGTH = 8;
const MAX_DEPTH = 3;

export class Choices {
  private next = 0;
  constructor(private readonly list: readonly number[]) {}

  below(limit: number): number {
    return (this.list[this.next++] ?? 0) % limit;
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }

  /** True once in `n`. */
  rarely(n: number): boolean {
    return this.below(n) === n - 1;
  }
}

const ARRAYS = INTS.map((kind) => `a_${kind}`);

/** The module with the storage that all programs of a batch work on. */
export const WORLD = `
export enum Kind { A, B = 3, C, D = 0x80000000 }
export class Inner extends Struct { a: u16; b: i8; flag: boolean; c: u32; }
export class Outer extends Struct {
  wide: u64; list: FixedArray<i32, ${LENGTH}>; inner: Inner; next: Outer | null; kind: Kind; s: i32; inners: FixedArray<Inner, 2>;
}
export class Tight extends Packed {
  x: u8; y: u32; z: i64; w: u16;
  mixed(by: u32): u32 { this.w ^= wrapU16(by); this.y += by; return this.y ^ u32(this.x); }
}
export class Entry extends BitField<u64> {
  present: Bit<0>; level: BitRange<7, 4, u8>; frame: BitRange<51, 12, u64>; type: BitRange<62, 52, u16>; top: Bit<63>;
  raised(by: u8): u64 { this.level = by & 7; this.present = !this.present; this.frame += u64(by); return this.bits; }
}
export class Either extends Union { wide: u64; halves: FixedArray<u32, 2>; bytes: FixedArray<u8, 8>; flag: boolean; }
/** @mustUse */
export enum Result { OK, ODD, LARGE }
export function judge(value: u32): Result { return value > 1000 ? Result.LARGE : (value & 1) === 0 ? Result.OK : Result.ODD; }
${INTS.map((kind) => `export const a_${kind}: FixedArray<${kind}, ${LENGTH}> = zeroed();`).join("\n")}
export const TABLE: FixedArray<u16, ${LENGTH}> = [1, 2, 0xffff, 0x8000, 5, 0, 7, 300];
export const one: Outer = zeroed();
export const two: Outer = zeroed();
export const tight: Tight = zeroed();
export const entry: Entry = zeroed();
export const either: Either = zeroed();
export const outers: FixedArray<Outer, ${LENGTH}> = zeroed();
export const matrix: FixedArray<FixedArray<u8, 4>, 4> = zeroed();
export function follow(outer: Outer): Outer | null { return outer.next; }
function mix(seed: u64, at: HostVirtual, size: u64): u64 {
  let h = seed;
  for (let i: u64 = 0n; i < size; i++) h = (h ^ u64(load8(at + i))) * 0x100000001b3n;
  return h;
}
/** Of everything; pointers are dropped first, since addresses differ between the two worlds. */
export function worldHash(): u64 {
  one.next = null;
  two.next = null;
  for (let i: u32 = 0; i < ${LENGTH}; i++) outers[i].next = null;
  let h: u64 = 7n;
  ${["one", "two", "outers", "tight", "matrix", "entry", "either", ...ARRAYS].map((name) => `h = mix(h, addressOf(${name}), SIZE_OF_${name});`).join("\n  ")}
  return h;
}
export function reset(): void {
  ${["one", "two", "outers", "tight", "matrix", "entry", "either", ...ARRAYS].map((name) => `fillBytes(addressOf(${name}), 0, SIZE_OF_${name});`).join("\n  ")}
}
const SIZE_OF_one: u64 = u64(sizeOf<Outer>());
const SIZE_OF_two: u64 = u64(sizeOf<Outer>());
const SIZE_OF_outers: u64 = u64(sizeOf<FixedArray<Outer, ${LENGTH}>>());
const SIZE_OF_tight: u64 = u64(sizeOf<Tight>());
const SIZE_OF_matrix: u64 = 16n;
const SIZE_OF_entry: u64 = u64(sizeOf<Entry>());
const SIZE_OF_either: u64 = u64(sizeOf<Either>());
${INTS.map((kind) => `const SIZE_OF_a_${kind}: u64 = u64(sizeOf<FixedArray<${kind}, ${LENGTH}>>());`).join("\n")}
`;

/** An expression; a constant one must not stand where the compiler would judge its value. */
interface Text { text: string; constant: boolean }

interface Variable { name: string; kind: Kind; fixed: boolean }
interface Signature { name: string; params: Kind[]; result: Kind }

export class Program {
  private readonly functions: Signature[] = [];
  private readonly texts: string[] = [];
  private scope: Variable[] = [];
  private hasStruct = false;
  private names = 0;
  /** All loops of a program may come to stand inside one another, by calls. */
  private loopsLeft = 3;

  constructor(private readonly choose: Choices, private readonly id: string) {}

  /** The module; it exports `<id>run(a: u32, b: u64, c: i32): u64` and `<id>hash(): u64` over all its storage. */
  toString(): string {
    const count = 1 + this.choose.below(3);
    for (let i = 0; i < count; i++) this.addFunction(`${this.id}f${i}`);
    this.addFunction(`${this.id}run`, ["u32", "u64", "i32"], "u64");
    return [...this.scalars(), ...this.texts, this.hash()].join("\n");
  }

  /** What cannot be assigned from another module. */
  private scalars(): string[] {
    return [
      `import { Inner, Kind, Outer, Result, TABLE, ${INTS.map((kind) => `a_${kind}`).join(", ")}, either, entry, follow, judge, matrix, one, outers, reset, tight, two, worldHash } from "./world";`,
      ...INTS.map((kind, i) => `let g_${kind}: ${kind} = ${literal(kind, 256 + 7 * i + 4)};`),
      "let g_boolean: boolean = false;",
    ];
  }

  private hash(): string {
    const scalars = INTS.map((kind) => `h = h * 31n + wrapU64(g_${kind});`);
    return `export function ${this.id}hash(): u64 {
  let h = worldHash();
  ${scalars.join("\n  ")}
  reset();
  return h + (g_boolean ? 1n : 0n);
}`;
  }

  private addFunction(name: string, given?: Kind[], givenResult?: Kind): void {
    const { choose } = this;
    const params = given ?? Array.from({ length: choose.below(4) }, () => this.kind());
    const result = givenResult ?? this.kind();
    this.scope = params.map((kind, i) => ({ name: `p${i}`, kind, fixed: false }));
    this.hasStruct = !given && choose.below(2) === 1;
    const list = params.map((kind, i) => `p${i}: ${kind}`);
    if (this.hasStruct) list.push("s: Outer");
    const body = this.block(2, 5);
    // Nothing that was made stays unused.
    if (given) body.push(...this.functions.map((one) => `${one.result === "boolean" ? "g_boolean" : `g_${one.result}`} = ${this.callOf(one)};`));
    const value = this.expression(result, 2).text;
    this.texts.push(`${given ? "export " : ""}function ${name}(${list.join(", ")}): ${result} {\n${indent(body)}\n  return ${value};\n}`);
    if (!given) this.functions.push({ name: this.hasStruct ? `${name}*` : name, params, result });
  }

  private kind(): Kind {
    return this.choose.rarely(6) ? "boolean" : this.choose.of(INTS);
  }

  // ---- Statements

  private block(depth: number, most: number): string[] {
    const before = this.scope.length;
    const lines: string[] = [];
    const count = 1 + this.choose.below(most);
    for (let i = 0; i < count; i++) lines.push(...this.statement(depth));
    this.scope.length = before;
    return lines;
  }

  private statement(depth: number): string[] {
    const { choose } = this;
    const simple = [() => this.assignment(), () => this.compound(), () => this.declaration(), () => this.stepping(), () => this.call(), () => this.check()];
    const nested = [() => this.word(), () => this.branch(depth), () => this.loop(depth), () => this.switching(depth), () => this.storageOnStack(), () => this.pointers()];
    return choose.of(depth > 0 ? [...simple, ...nested] : simple)();
  }

  private declaration(): string[] {
    const kind = this.kind();
    const name = this.name("v");
    const fixed = this.choose.below(2) === 1;
    const value = this.expression(kind, MAX_DEPTH);
    this.scope.push({ name, kind, fixed: fixed && !value.constant });
    return [`${fixed && !value.constant ? "const" : "let"} ${name}: ${kind} = ${value.text};`];
  }

  private assignment(): string[] {
    const kind = this.kind();
    return [`${this.place(kind)} = ${this.expression(kind, MAX_DEPTH).text};`];
  }

  private compound(): string[] {
    const kind = this.choose.of(INTS);
    const target = this.place(kind);
    const op = this.choose.of(["+", "-", "*", "&", "|", "^", "<<", ">>", "/", "%"]);
    const right = op === "<<" || op === ">>" || op === "/" || op === "%" ? this.variable(kind) : this.expression(kind, 2).text;
    return [`${target} ${op}= ${right};`];
  }

  private stepping(): string[] {
    return [`${this.place(this.choose.of(INTS))}${this.choose.of(["++", "--"])};`];
  }

  private call(): string[] {
    const found = this.functions.length > 0 ? this.choose.of(this.functions) : null;
    return found ? [`${this.callOf(found)};`] : this.assignment();
  }

  /** A check that often holds. */
  private check(): string[] {
    if (!this.choose.rarely(3)) return this.assignment();
    const condition = `${this.variable("u32")} ${this.choose.of(["!== 12345", "< 0xf0000000", "=== 7"])}`;
    return this.choose.below(2) === 0 ? [`assert(${condition});`] : [`if (!(${condition})) unreachable();`];
  }

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
    this.scope.push({ name: i, kind: "u32", fixed: true });
    const body = indented(this.block(depth - 1, 3));
    if (this.choose.rarely(3)) body.unshift(`  if (${this.condition(1)}) ${this.choose.of(["continue", "break"])};`);
    this.scope.pop();
    switch (this.choose.below(3)) {
      case 0: return [`for (let ${i}: u32 = 0; ${i} < ${limit}; ${i}++) {`, ...body, "}"];
      case 1: return [`for (let ${i}: u32 = 0, n: u64 = ${this.variable("u64")}; ${i} < ${limit} && n !== 3n; ${i} += 1, n--) {`, ...body, "}"];
      default: return [`{ let ${i}: u32 = 0; do { ${i}++;`, ...body, `} while (${i} < ${limit}); }`];
    }
  }

  private switching(depth: number): string[] {
    const value = this.variable("u32");
    const labels = this.choose.below(2) === 0 ? ["Kind.A", "Kind.B", "Kind.C", "Kind.D"] : ["0", "1", "0x80", "0xffffffff"];
    const on = labels[0] === "Kind.A" ? `(${value} ${this.choose.of(["& 3", "% 5", "| 0"])}) as Kind` : value;
    const cases = labels.map((label, i) => {
      if (i === 1 && this.choose.below(2) === 1) return `  case ${label}:`;
      return [`  case ${label}: {`, ...indented(indented(this.block(depth - 1, 2))), "    break;", "  }"].join("\n");
    });
    const rest = labels[0] === "Kind.A" && this.choose.below(2) === 0 ? [] : [`  default: { ${this.assignment()[0]} break; }`];
    return [`switch (${on}) {`, ...cases, ...rest, "}"];
  }

  private storageOnStack(): string[] {
    const name = this.name("k");
    const value = this.variable("u32");
    return [
      `const ${name}: Inner = zeroed();`,
      `${name}.c = ${value}; ${name}.flag = ${this.condition(1)};`,
      `${this.place("u32")} = ${name}.c + u32(${name}.flag) + u32(${name}.a);`,
    ];
  }

  private pointers(): string[] {
    const target = this.choose.of(["one", "two", "outers[3]"]);
    const p = this.name("q");
    return [
      `${target}.next = ${this.choose.of(["two", "null", `outers[${this.index()}]`])};`,
      `const ${p}: Outer | null = follow(${target});`,
      `if (${p} !== null) { ${p}.s += ${this.variable("i32")}; ${p}.inner.c = ${this.variable("u32")}; }`,
    ];
  }

  /** Bit fields, methods, unions, results. */
  private word(): string[] {
    const { choose } = this;
    const small = `${this.variable("u8")}${choose.rarely(4) ? "" : " & 15"}`;
    return choose.of([
      () => [`entry.level = ${small};`],
      () => [`entry.frame ${choose.of(["=", "+=", "^="])} ${this.variable("u64")}${choose.rarely(4) ? "" : " & 0xffffn"};`],
      () => [`entry.type${choose.of(["++", "--"])};`, `entry.top = ${this.condition(1)};`],
      () => [`${this.place("u64")} = entry.raised(${this.expression("u8", 2).text});`],
      () => [`${this.place("u32")} ^= tight.mixed(${this.expression("u32", 2).text});`],
      () => [`if (judge(${this.variable("u32")}) !== Result.OK) { ${this.place("u16")}++; }`, `ignore(judge(${this.variable("u32")}));`],
      () => [`either.${choose.of(["wide = " + this.variable("u64"), "bytes[5] = " + this.variable("u8"), "flag = " + this.condition(1)])};`, `${this.place("u32")} = either.halves[${this.variable("u32")} & 1];`],
    ])();
  }

  // ---- Places

  private place(kind: Kind): string {
    const locals = this.scope.filter((one) => one.kind === kind && !one.fixed).map((one) => one.name);
    const list = [`g_${kind}`, ...locals];
    if (kind === "boolean") list.push("entry.present", "entry.top", "one.inner.flag", "two.inners[1].flag");
    else list.push(`a_${kind}[${this.index()}]`);
    const outer = this.outer();
    if (kind === "u64") list.push(`${outer}.wide`);
    if (kind === "i32") list.push(`${outer}.list[${this.index()}]`, `${outer}.s`);
    if (kind === "u16") list.push(`${outer}.inner.a`, "tight.w");
    if (kind === "u32") list.push(`${outer}.inners[${this.variable("u32")} & 1].c`, "tight.y");
    if (kind === "i8") list.push(`${outer}.inner.b`);
    if (kind === "u8") list.push("tight.x", `matrix[${this.variable("u8")} >> 6][${this.variable("u32")} % 4]`);
    if (kind === "i64") list.push("tight.z");
    return this.choose.of(list);
  }

  private outer(): string {
    const all = ["one", "two", `outers[${this.index()}]`];
    return this.choose.of(this.hasStruct ? [...all, "s"] : all);
  }

  /** An index that is proved, or checked, or now and then wrong. */
  private index(): string {
    switch (this.choose.below(7)) {
      case 0: return String(this.choose.below(LENGTH));
      case 5: return this.choose.rarely(3) ? `${this.variable("u32")} + ${this.variable("u32")}` : `${this.variable("u8")} & 7`;
      case 1: return `${this.variable("u8")} >> 5`;
      case 2: return `${this.variable("u32")} % ${LENGTH}`;
      case 3: return this.choose.rarely(4) ? `${this.variable("u32")} % ${LENGTH + 1}` : `${this.variable("u32")} & 7`;
      case 4: return this.scope.find((one) => one.name.startsWith("at"))?.name ?? "3";
      default: return `${this.variable("u16")} & ${LENGTH - 1}`;
    }
  }

  private variable(kind: Kind): string {
    const found = this.scope.filter((one) => one.kind === kind).map((one) => one.name);
    return this.choose.of([`g_${kind}`, ...found]);
  }

  // ---- Expressions

  private expression(kind: Kind, depth: number): Text {
    if (kind === "boolean") return { text: this.condition(depth), constant: false };
    const { choose } = this;
    if (depth === 0) {
      if (choose.below(3) === 1) return { text: literal(kind, choose.below(1 << 16)), constant: true };
      return { text: choose.below(3) === 1 ? this.place(kind) : this.variable(kind), constant: false };
    }
    const inner = (of: Kind = kind): string => this.expression(of, depth - 1).text;
    const varying = (of: Int = kind): string => `(${inner(of)} + ${this.variable(of)})`;
    const of = choose.of(INTS);
    const made = (text: string): Text => ({ text, constant: false });
    switch (choose.below(13)) {
      case 11: return made(`checked${choose.of(["Add", "Sub", "Mul"])}(${choose.rarely(3) ? varying() : `(${varying()} & ${literal(kind, 7)})`}, ${literal(kind, 3)})`);
      case 0: return this.expression(kind, 0);
      case 1: case 2: case 3: return made(`(${varying()} ${choose.of(["+", "-", "*", "&", "|", "^"])} ${inner()})`);
      case 4: return made(`wrap${kind.toUpperCase()}(${varying(of)})`);
      case 5: return made(`(${choose.of(["-", "~"])}${varying()})`);
      case 6: return made(`(${varying()} ${choose.of(["<<", ">>"])} ${this.variable(choose.of(INTS.filter((other) => wide(other) === wide(kind))))})`);
      case 7: return made(`(${varying()} ${choose.of(["/", "%"])} (${varying()}${choose.rarely(3) ? "" : ` | ${literal(kind, 1)}`}))`);
      case 8: return made(`(${this.condition(depth - 1)} ? ${varying()} : ${inner()})`);
      case 9: {
        const found = this.functions.filter((one) => one.result === kind);
        return found.length > 0 ? made(this.callOf(choose.of(found))) : made(this.place(kind));
      }
      case 10: return kind === "u16" ? made(`TABLE[${this.index()}]`) : made(this.place(kind));
      // A conversion that may trap, of something small most of the time.
      default: return choose.rarely(3) ? made(`${kind}(${varying(of)})`) : made(`${kind}(${varying(of)} & ${literal(of, 100)})`);
    }
  }

  private condition(depth: number): string {
    const { choose } = this;
    if (depth === 0) return choose.below(2) === 0 ? this.variable("boolean") : this.place("boolean");
    switch (choose.below(5)) {
      case 0: return `(${this.condition(depth - 1)} ${choose.of(["&&", "||"])} ${this.condition(depth - 1)})`;
      case 1: return `!(${this.condition(depth - 1)})`;
      case 2: return `follow(${choose.of(["one", "two"])}) ${choose.of(["===", "!=="])} ${choose.of(["null", "two"])}`;
      default: {
        const kind = choose.of(INTS);
        return `(${this.variable(kind)} ${choose.of(["===", "!==", "<", "<=", ">", ">="])} ${this.expression(kind, depth - 1).text})`;
      }
    }
  }

  private callOf({ name, params }: Signature): string {
    const args = params.map((kind) => this.expression(kind, 1).text);
    const takesStruct = name.endsWith("*");
    if (takesStruct) args.push(this.outer());
    return `${takesStruct ? name.slice(0, -1) : name}(${args.join(", ")})`;
  }

  private name(prefix: string): string {
    return `${prefix}${this.names++}`;
  }
}

function wide(kind: Int): boolean {
  return kind.endsWith("64");
}

/** A constant of the type; the choice picks small ones, limits and patterns. */
function literal(kind: Int, choice: number): string {
  const bits = BigInt(kind.slice(1));
  const patterns = [0n, 1n, -1n, 1n << (bits - 1n), (1n << (bits - 1n)) - 1n, 0x5555555555555555n];
  const raw = choice < 256 ? BigInt(choice) : patterns[choice % patterns.length]! + BigInt(choice & 7);
  const value = kind.startsWith("u") ? BigInt.asUintN(Number(bits), raw) : BigInt.asIntN(Number(bits), raw);
  return `${kind}(${value}${wide(kind) ? "n" : ""})`;
}

function indented(lines: string[]): string[] {
  return lines.map((line) => line.split("\n").map((one) => `  ${one}`).join("\n"));
}

function indent(lines: string[]): string {
  return indented(lines).join("\n");
}
