/** Random expressions and places, of every type that a program has. */
import { type Choices, INTS, type Int, LENGTH, type TypeName, elementOf, isInt, literal, wide } from "./choices.ts";
import { type RecordShape, type Types, objectLiteral } from "./types.ts";

/** An expression; a constant one must not stand where the compiler would judge its value. */
export interface Text { text: string; constant: boolean }

/** What a name, or a path to a field of it, stands for; what is fixed is only read. */
export interface Variable { name: string; type: TypeName; fixed: boolean }

/** A function or method; a method's name has the place before it, as "st0.run". */
export interface Signature { name: string; params: TypeName[]; result: TypeName }

const made = (text: string): Text => ({ text, constant: false });

export abstract class Values {
  protected readonly functions: Signature[] = [];
  /** Static variables of types that not all programs have. */
  protected readonly statics: Variable[] = [];
  protected readonly rings: { name: string; element: TypeName }[] = [];
  protected scope: Variable[] = [];
  private names = 0;

  constructor(protected readonly choose: Choices, protected readonly types: Types) {}

  protected name(prefix: string): string {
    return `${prefix}${this.names++}`;
  }

  /** Names of a type that can be read now. */
  protected readable(type: TypeName): string[] {
    return [...this.statics, ...this.scope].filter((one) => one.type === type).map((one) => one.name);
  }

  // ---- Places

  protected place(type: TypeName): string {
    const list = [...this.statics, ...this.scope].filter((one) => one.type === type && !one.fixed).map((one) => one.name);
    if (isInt(type) || type === "boolean") list.unshift(`g_${type}`);
    if (type === "boolean") list.push("entry.present", "entry.top", "one.inner.flag", "two.inners[1].flag");
    else if (isInt(type)) list.push(`a_${type}[${this.index()}]`, ...this.elements(type));
    const outer = this.outer();
    if (type === "u64") list.push(`${outer}.wide`, "either.wide");
    if (type === "i32") list.push(`${outer}.list[${this.index()}]`, `${outer}.s`);
    if (type === "u16") list.push(`${outer}.inner.a`, "tight.w");
    if (type === "u32") list.push(`${outer}.inners[${this.variable("u32")} & 1].c`, "tight.y", `shared[${this.variable("u8")} & 1].count`);
    if (type === "i8") list.push(`${outer}.inner.b`);
    if (type === "u8") list.push("tight.x", `matrix[${this.variable("u8")} >> 6][${this.variable("u32")} % 4]`);
    if (type === "i64") list.push("tight.z");
    if (type === "Kind") list.push(`${outer}.kind`);
    return this.choose.of(list);
  }

  /** Elements of slices and arrays in scope. */
  private elements(type: Int): string[] {
    const slices = this.readable(`Slice<${type}>`);
    const arrays = this.readable(`array of ${type}`);
    return [
      ...slices.map((name) => `${name}[${this.choose.rarely(3) ? this.index() : `${this.variable("u32")} % ${name}.length`}]`),
      ...arrays.map((name) => `${name}[${this.index()}]`),
    ];
  }

  protected outer(): string {
    return this.choose.of(["one", "two", `outers[${this.index()}]`, ...this.readable("Outer")]);
  }

  /** An index below LENGTH that is proved, or checked, or now and then wrong. */
  protected index(): string {
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

  /** An integer or boolean by name. */
  protected variable(type: TypeName): string {
    return this.choose.of([`g_${type}`, ...this.readable(type)]);
  }

  // ---- Expressions

  protected expression(type: TypeName, depth: number): Text {
    if (isInt(type)) return this.integer(type, depth);
    if (type === "boolean") return made(this.condition(depth));
    return made(this.other(type, depth));
  }

  /** A value that tsc knows no more of than its type says: it would narrow a variable that starts as a literal. */
  protected opaque(type: TypeName, depth: number): string {
    const { text } = this.expression(type, depth);
    const narrows = this.types.recordOf(type)?.tag || this.types.enumMembers(type) || type.endsWith(" | null");
    return narrows ? `same<${type}>(${text})` : text;
  }

  /** Of a type that is no integer and not boolean. */
  private other(type: TypeName, depth: number): string {
    const { choose } = this;
    const known = this.readable(type);
    const again = (): string => this.expression(type, depth - 1).text;
    const forms: (() => string)[] = [() => this.simple(type, depth)];
    if (known.length > 0) forms.push(() => choose.of(known), () => choose.of(known));
    if (depth > 0) {
      forms.push(() => `(${this.condition(depth - 1)} ? ${again()} : ${again()})`, () => `same<${type}>(${again()})`, () => `pick<${type}>(${this.condition(0)}, ${again()}, ${again()})`);
      const calls = this.functions.filter((one) => one.result === type);
      if (calls.length > 0) forms.push(() => this.callOf(choose.of(calls)));
      const element = /^Option<(.*)>$/.exec(type)?.[1];
      const rings = this.rings.filter((ring) => ring.element === element);
      if (rings.length > 0) forms.push(() => `${choose.of(rings).name}.pop()`);
      if (element && isInt(element)) forms.push(() => `firstOf<${element}>(${this.expression(`Slice<${element}>`, 0).text})`);
    }
    return choose.of(forms)();
  }

  private simple(type: TypeName, depth: number): string {
    const { choose } = this;
    const members = this.types.enumMembers(type);
    if (members) return choose.rarely(3) && type === "Kind" ? `((${this.variable("u32")} ${choose.of(["& 3", "% 5", "| 0"])}) as Kind)` : choose.of(members);
    if (type === "Outer | null") return choose.of(["null", "one", "two", `outers[${this.index()}]`, `follow(${this.outer()})`]);
    const element = elementOf(type);
    if (element) return this.slice(element as Int);
    const record = this.types.recordOf(type);
    if (!record) throw new Error(`no value of ${type}`);
    return this.record(record, depth);
  }

  private slice(element: Int): string {
    const { choose } = this;
    const from = `(${this.variable("u32")} & 3)`;
    const to = choose.rarely(4) ? this.variable("u32") : `${choose.below(LENGTH - 3) + 3}`;
    const rings = this.rings.filter((ring) => ring.element === element);
    const arrays = [`a_${element}`, ...this.readable(`Slice<${element}>`)];
    switch (choose.below(6)) {
      case 1: return `sliceOf(${choose.of(arrays)}, ${from})`;
      case 2: return `sliceOf(${choose.of(arrays)}, ${from}, ${to})`;
      case 3: return `sliceAt<${element}>(addressOf(a_${element}), u32(${this.variable("u8")} & 7))`;
      case 4: return `sliceOf(a_${element}, ${choose.below(4)}, ${4 + choose.below(LENGTH - 3)})`;
      case 5: return rings.length > 0 ? `${choose.of(rings).name}.rest()` : `sliceOf(a_${element})`;
      default: return `sliceOf(${choose.of(arrays)})`;
    }
  }

  /** An object literal, its fields in any order: they are evaluated as they stand. */
  private record(record: RecordShape, depth: number): string {
    const variant = this.choose.of(record.variants);
    const fields = variant.fields.map(({ name, type }) => `${name}: ${this.expression(type, Math.max(0, Math.min(depth, 2) - 1)).text}`);
    if (this.choose.below(3) === 1) fields.reverse();
    return objectLiteral(record, variant, fields);
  }

  private integer(type: Int, depth: number): Text {
    const { choose } = this;
    if (depth === 0) {
      if (choose.below(3) === 1) return { text: literal(type, choose.below(1 << 16)), constant: true };
      return made(choose.below(3) === 1 ? this.place(type) : this.variable(type));
    }
    const inner = (of: TypeName = type): string => this.expression(of, depth - 1).text;
    const varying = (of: Int = type): string => `(${inner(of)} + ${this.variable(of)})`;
    const of = choose.of(INTS);
    switch (choose.below(15)) {
      case 0: return this.expression(type, 0);
      case 1: case 2: case 3: return made(`(${varying()} ${choose.of(["+", "-", "*", "&", "|", "^"])} ${inner()})`);
      case 4: return made(`wrap${type.toUpperCase()}(${varying(of)})`);
      case 5: return made(`(${choose.of(["-", "~"])}${varying()})`);
      case 6: return made(`(${varying()} ${choose.of(["<<", ">>"])} ${this.variable(choose.of(INTS.filter((other) => wide(other) === wide(type))))})`);
      case 7: return made(`(${varying()} ${choose.of(["/", "%"])} (${varying()}${choose.rarely(3) ? "" : ` | ${literal(type, 1)}`}))`);
      case 8: return made(`(${this.condition(depth - 1)} ? ${varying()} : ${inner()})`);
      case 9: {
        const found = this.functions.filter((one) => one.result === type);
        return made(found.length > 0 ? this.callOf(choose.of(found)) : this.place(type));
      }
      case 10: return made(type === "u16" ? `TABLE[${this.index()}]` : this.place(type));
      case 11: return made(`checked${choose.of(["Add", "Sub", "Mul"])}(${choose.rarely(3) ? varying() : `(${varying()} & ${literal(type, 7)})`}, ${literal(type, 3)})`);
      case 12: return made(this.library(type, depth));
      case 13: return made(choose.of([`larger(${varying()}, ${this.variable(type)})`, `pick(${this.condition(0)}, ${varying()}, ${this.variable(type)})`, `same<${type}>(${inner()})`]));
      // A conversion that may trap, of something small most of the time; or of a boolean, which does not.
      default: return made(choose.rarely(5) ? `${type}(${this.condition(depth - 1)})` : choose.rarely(3) ? `${type}(${varying(of)})` : `${type}(${varying(of)} & ${literal(of, 100)})`);
    }
  }

  /** By the core library's functions and the world's. */
  private library(type: Int, depth: number): string {
    const { choose } = this;
    const inner = (of: TypeName): string => this.expression(of, depth - 1).text;
    const slice = (): string => this.expression(`Slice<${choose.of(INTS)}>`, 0).text;
    const atomic = (place: string): string => choose.of([`atomicLoad(${place})`, `atomicAdd(${place}, ${inner(type)})`, `atomicExchange(${place}, ${inner(type)})`]);
    switch (type) {
      case "u8": return choose.of([`byteAt(NAME, ${inner("u32")} % 9)`, `spell(${this.condition(0)} ? "no" : "", ${this.variable("u32")} & 3)`, `load8(addressOf(a_i64) + u64(${this.variable("u8")} & 63))`]);
      case "u16": return `load16(addressOf(outers) + u64(${this.variable("u8")} & 0xfe))`;
      case "u32": return choose.of([`${slice()}.length`, atomic(choose.of(["g_u32", "one.inner.c", `a_u32[${this.index()}]`])), `load32(addressOf(matrix) + u64(${this.variable("u8")} & 12))`, `u32(${this.expression("Kind", 0).text})`]);
      case "u64": return choose.of([
        atomic(choose.of(["g_u64", "one.wide", `a_u64[${this.index()}]`])), `u64(frameOf(${inner("u64")}))`, `load64(addressOf(a_u16) + ${this.variable("u64")} % 9n)`,
        `(1n << ${this.variable("u64")})`, `digestSlice(${slice()})`, `(addressOf(outers[${this.index()}].inner) - addressOf(outers))`,
      ]);
      case "i32": return `maybe(${this.expression("Outer | null", 0).text}, ${inner("i32")})`;
      case "i8": case "i16": return `total(${this.expression(`Slice<${type}>`, 0).text}, ${this.variable(type)})`;
      case "i64": return `i64(${this.expression("i32", depth - 1).text})`;
    }
  }

  protected condition(depth: number): string {
    const { choose } = this;
    if (depth === 0) return choose.below(2) === 0 ? this.variable("boolean") : this.place("boolean");
    switch (choose.below(6)) {
      case 0: return `(${this.condition(depth - 1)} ${choose.of(["&&", "||"])} ${this.condition(depth - 1)})`;
      case 1: return `!(${this.condition(depth - 1)})`;
      case 2: return `follow(${choose.of(["one", "two"])}) ${choose.of(["===", "!=="])} ${choose.of(["null", "two"])}`;
      case 3: {
        const ring = this.rings.length > 0 ? choose.of(this.rings) : null;
        return ring ? `${ring.name}.push(${this.expression(ring.element, depth - 1).text})` : `${this.variable("u32")} > 9`;
      }
      default: {
        const type = choose.of(INTS);
        return `(${this.variable(type)} ${choose.of(["===", "!==", "<", "<=", ">", ">="])} ${this.expression(type, depth - 1).text})`;
      }
    }
  }

  protected callOf({ name, params }: Signature): string {
    return `${name}(${params.map((type) => this.argument(type)).join(", ")})`;
  }

  private argument(type: TypeName): string {
    if (type === "Outer") return this.outer();
    const struct = this.types.structs.some((one) => one.name === type);
    return struct ? this.choose.of(this.readable(type)) : this.expression(type, 1).text;
  }
}
