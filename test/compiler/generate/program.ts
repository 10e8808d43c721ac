/**
 * Random well-typed programs: every construct that has a meaning at run time, over storage of all kinds. A program is
 * made of a list of numbers, one for each choice.
 */
import { type Choices, INTS, LENGTH, type TypeName, elementOf, indented, literal } from "./choices.ts";
import { Statements } from "./statements.ts";
import { Types } from "./types.ts";
import { IMPORTS } from "./world.ts";

export class Program extends Statements {
  private readonly texts: string[] = [];
  private readonly hashes: string[] = [];

  constructor(choose: Choices, private readonly id: string) {
    super(choose, new Types(choose));
  }

  /** The module; it exports `<id>run(a: u32, b: u64, c: i32): u64` and `<id>hash(): u64` over all its storage. */
  override toString(): string {
    this.addStatics();
    this.addTables();
    const methods = this.types.structs.length > 0 ? this.choose.below(3) : 0;
    for (let i = 0; i < methods; i++) this.addMethod(`act${i}`);
    const count = 1 + this.choose.below(3);
    for (let i = 0; i < count; i++) this.addFunction(`${this.id}f${i}`);
    this.addRun();
    const structs = this.types.structs.map(({ opening, methods: own }) => `${opening}\n${indented(own).join("\n")}\n}`);
    const hash = this.hash();
    return [...this.scalars(), ...this.types.texts, ...structs, ...this.texts, hash].join("\n");
  }

  /** What cannot be assigned from another module. */
  private scalars(): string[] {
    return [
      `import { ${IMPORTS.join(", ")} } from "./world";`,
      ...INTS.map((type, i) => `let g_${type}: ${type} = ${literal(type, 256 + 7 * i + 4)};`),
      "let g_boolean: boolean = false;",
    ];
  }

  /** Variables, arrays, rings and structs of the program's own types. */
  private addStatics(): void {
    const { types, choose } = this;
    for (const { name: type, storable } of types.records) {
      const start = types.constant(type);
      if (!storable) continue;
      const name = this.name("s");
      this.addStatic(`let ${name}: ${type} = ${start && choose.below(2) === 0 ? start : "zeroed()"};`, [name], type);
      const list = this.name("list");
      this.addStatic(`const ${list}: FixedArray<${type}, 3> = zeroed();`, [`${list}[${choose.below(3)}]`, `${list}[g_u8 % 3]`], type);
      const ring = this.name("ring");
      if (!choose.rarely(2)) continue;
      this.texts.push(`const ${ring}: Ring<${type}, ${1 + choose.below(5)}> = zeroed();`);
      this.rings.push({ name: ring, element: type });
      this.hashes.push(`for (const item of ${ring}.items) h = h * 31n + ${types.digest(type, "item")};`, `h += u64(${ring}.count);`);
    }
    if (choose.rarely(3)) {
      const element = choose.of(INTS);
      const name = this.name("view");
      this.addStatic(`let ${name}: Slice<${element}> = zeroed();`, [name], `Slice<${element}>`);
      const ring = this.name("ring");
      this.texts.push(`const ${ring}: Ring<${element}, 6> = zeroed();`);
      this.rings.push({ name: ring, element });
      this.hashes.push(`h ^= digestSlice(sliceOf(${ring}.items));`);
    }
    for (const { name: type, fields, arrays } of types.structs) {
      const name = this.name("st");
      this.texts.push(`const ${name}: ${type} = zeroed();`);
      this.statics.push({ name, type, fixed: true }, ...this.within(name, type));
      for (const field of fields) this.hashes.push(`h = h * 31n + ${types.digest(field.type, `${name}.${field.name}`)};`);
      for (const field of arrays) this.hashes.push(`h = h * 31n + digestSlice(sliceOf(${name}.${field.name}));`);
    }
  }

  private addStatic(text: string, places: string[], type: TypeName): void {
    this.texts.push(text);
    for (const place of places) this.statics.push({ name: place, type, fixed: false });
    this.hashes.push(`h = h * 31n + ${this.types.digest(type, places[0]!)};`);
  }

  /** Constant tables: listed ones, and one that a function fills at compile time, which says the same when it runs again. */
  private addTables(): void {
    const { choose, types } = this;
    const type = choose.of([...INTS, ...types.records.filter((record) => record.storable).map((record) => record.name)]);
    const rows = Array.from({ length: 3 }, () => types.constant(type));
    if (!rows.includes(null)) {
      const name = this.name("ROWS");
      this.texts.push(`const ${name}: FixedArray<${type}, 3> = [${rows.join(", ")}];`);
      this.statics.push({ name: `${name}[g_u16 % 3]`, type, fixed: true });
    }
    if (!choose.rarely(2)) return;
    const of = choose.of(INTS);
    const other = choose.of(INTS);
    const one = (): string => choose.of([`wrap${of.toUpperCase()}(i)`, "last", "table[i]", "table[(i + 3) % table.length]", literal(of, choose.below(1 << 16)), `wrap${of.toUpperCase()}(wrap${other.toUpperCase()}(last))`, `wrap${of.toUpperCase()}(TABLE[i & 7])`]);
    const sum = (): string => `((${one()} ${choose.of(["+", "-", "*", "^", "|"])} last) ${choose.of(["+", "*", "^", "&"])} ${one()})`;
    this.texts.push(`function fill(table: FixedArray<${of}, ${LENGTH}>): void {
  let last: ${of} = ${literal(of, choose.below(1 << 16))};
  for (let i: u32 = 0; i < table.length; i++) {
    table[i] = last ${choose.of(["<", ">", "==="])} ${one()} ? ${sum()} : ${sum()};
    last = last ${choose.of(["+", "^", "<<", ">>"])} table[i];
  }
}
const FILLED: FixedArray<${of}, ${LENGTH}> = filled(fill);`);
    this.statics.push(...[0, 1].map((i) => ({ name: `FILLED[(g_u8 >> ${i * 3}) & 7]`, type: of, fixed: true })));
    this.hashes.push(`const again: FixedArray<${of}, ${LENGTH}> = zeroed();`, "fill(again);", `for (let i: u32 = 0; i < ${LENGTH}; i++) h = h * 31n + wrapU64(FILLED[i]) - wrapU64(again[i]);`);
  }

  private addMethod(name: string): void {
    const { choose, types } = this;
    const struct = choose.of(types.structs);
    const params = Array.from({ length: choose.below(3) }, () => types.any());
    const { head, lines } = this.body(params, this.types.any(), this.within("this", struct.name));
    struct.methods.push(`${name}${head} {\n${lines.join("\n")}\n}`);
    const static_ = this.statics.find((one) => one.type === struct.name)!;
    this.functions.push({ name: `${static_.name}.${name}`, params, result: this.result });
  }

  private addFunction(name: string): void {
    const { choose, types } = this;
    const params = Array.from({ length: choose.below(4) }, () => (choose.rarely(10) ? "Outer | null" : types.any()));
    if (choose.below(2) === 1) params.push(choose.of(["Outer", ...types.structs.map((struct) => struct.name)]));
    const { head, lines } = this.body(params, choose.rarely(8) ? "Fault" : types.any(), []);
    this.texts.push(`function ${name}${head} {\n${lines.join("\n")}\n}`);
    this.functions.push({ name, params, result: this.result });
  }

  private addRun(): void {
    const calls = (): string[] => this.functions.map((one) => `g_u64 ^= ${this.types.digest(one.result, this.callOf(one))};`); // nothing that was made stays unused
    const { head, lines } = this.body(["u32", "u64", "i32"], "u64", [], calls);
    this.texts.push(`export function ${this.id}run${head} {\n${lines.join("\n")}\n}`);
  }

  /** A function without its name. A variant of a parameter is looked at where it is not assigned. */
  private body(params: readonly TypeName[], result: TypeName, within: Statements["scope"], more: () => string[] = () => []): { head: string; lines: string[] } {
    const { types } = this;
    this.result = result;
    this.scope = [...within, ...params.flatMap((type, i) => {
      const name = `p${i}`;
      const isReference = type === "Outer" || types.structs.some((struct) => struct.name === type);
      return [{ name, type, fixed: isReference || elementOf(type) !== null }, ...(isReference ? this.within(name, type) : this.always(name, types.recordOf(type)))];
    })];
    const lines = indented([...this.block(2, 5), ...more()]);
    const value = this.expression(result, 2).text;
    this.scope = [];
    return { head: `(${params.map((type, i) => `p${i}: ${type}`).join(", ")}): ${result}`, lines: [...lines, `  return ${value};`] };
  }

  private hash(): string {
    const lines = [...INTS.map((type) => `h = h * 31n + wrapU64(g_${type});`), ...this.hashes];
    return `export function ${this.id}hash(): u64 {
  let h: u64 = 0n;
${indented(lines).join("\n")}
  h += worldHash();
  reset();
  return h + (g_boolean ? 1n : 0n);
}`;
  }
}

