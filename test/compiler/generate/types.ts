/** Random types of a program: records, tagged unions, structs, bit fields; and what a program knows of them and of the world's. */
import { type Choices, INTS, type Int, LENGTH, type TypeName, elementOf, isInt, literal } from "./choices.ts";

export interface Field { name: string; type: TypeName }

/** `label` is the tag's value; a plain record has one variant without. */
export interface Variant { label: string | null; fields: Field[] }

export interface RecordShape {
  name: TypeName;
  tag: string | null;
  variants: Variant[];
  /** Whether zeroes are one of its values. */
  storable: boolean;
  mustUse: boolean;
}

/** A struct; `fields` are all places in it that hold an integer, boolean, enum or record, as paths. */
export interface StructShape {
  name: TypeName;
  fields: Field[];
  arrays: Field[];
  /** The class without what closes it. */
  opening: string;
  methods: string[];
}

const FAULTS = ["Fault.RANGE", "Fault.PARITY"];
const KINDS = ["Kind.A", "Kind.B", "Kind.C", "Kind.D"];

export class Types {
  readonly records: RecordShape[] = [];
  readonly structs: StructShape[] = [];
  /** Declarations, in an order that does not matter. */
  readonly texts: string[] = [];
  private readonly digests = new Map<TypeName, string>();
  private enums = 0;

  constructor(private readonly choose: Choices) {
    const kinds = [() => this.addRecord(), () => this.addUnion(), () => this.addWrapper(), () => this.addStruct()];
    for (let left = choose.below(5); left > 0; left--) choose.of(kinds)();
  }

  // ---- What there is

  recordOf(type: TypeName): RecordShape | undefined {
    return this.records.find((record) => record.name === type);
  }

  /** A type for a variable, parameter or field; mostly an integer. */
  any(): TypeName {
    const { choose } = this;
    if (!choose.rarely(3)) return choose.of(INTS);
    return choose.of(["boolean", "Kind", `Slice<${choose.of(INTS)}>`, ...this.records.map((record) => record.name)]);
  }

  /** One that may be in storage. */
  stored(): TypeName {
    const type = this.any();
    return this.recordOf(type)?.storable === false || elementOf(type) ? "u32" : type;
  }

  enumMembers(type: TypeName): readonly string[] | null {
    return type === "Kind" ? KINDS : type === "Fault" ? FAULTS : null;
  }

  /** A u64 that tells values of a type apart. */
  digest(type: TypeName, text: string): string {
    if (isInt(type)) return `wrapU64(${text})`;
    if (type === "boolean") return `(${text} ? 1n : 0n)`;
    if (this.enumMembers(type)) return `u64(${text})`;
    if (type.endsWith(" | null")) return `(${text} !== null ? 1n : 0n)`;
    if (elementOf(type)) return `digestSlice(${text})`;
    const record = this.recordOf(type);
    return record ? `${this.digestOf(record)}(${text})` : "0n";
  }

  /** A value of a type made of constants only; such as a table's element, or what a variable starts as. */
  constant(type: TypeName): string | null {
    const { choose } = this;
    if (isInt(type)) return literal(type, choose.below(1 << 16));
    if (type === "boolean") return choose.of(["false", "true"]);
    const members = this.enumMembers(type);
    if (members) return choose.of(members);
    if (type.endsWith(" | null")) return "null";
    const record = this.recordOf(type);
    if (!record) return null;
    const variant = choose.of(record.variants);
    const fields = variant.fields.map(({ name, type: of }) => {
      const value = this.constant(of);
      return value === null ? null : `${name}: ${value}`;
    });
    return fields.includes(null) ? null : objectLiteral(record, variant, fields as string[]);
  }

  // ---- How it comes to be

  private fields(most: number, prefix: string): Field[] {
    return Array.from({ length: 1 + this.choose.below(most) }, (_, i) => ({ name: `${prefix}${i}`, type: this.choose.rarely(8) ? "Outer | null" : this.any() }));
  }

  private add(record: Omit<RecordShape, "storable" | "mustUse">, mustUse = false): void {
    const zero = record.variants.find((variant) => variant.label === null || /^false$|\.NONE$/.test(variant.label));
    const storable = zero?.fields.every(({ type }) => this.recordOf(type)?.storable ?? true) ?? false;
    this.records.push({ ...record, storable, mustUse });
  }

  private addRecord(): void {
    const name = `R${this.records.length}`;
    const fields = this.fields(4, "f");
    this.texts.push(this.choose.below(2) === 0
      ? `type ${name} = { ${list(fields)} };`
      : `interface ${name} { ${list(fields)} }`);
    this.add({ name, tag: null, variants: [{ label: null, fields }] });
  }

  private addUnion(): void {
    const { choose } = this;
    const name = `U${this.records.length}`;
    const tagged = `T${this.enums++}`;
    const count = 2 + choose.below(3);
    const labels = ["NONE", "X", "Y", "Z"].slice(choose.rarely(4) ? 1 : 0).slice(0, count);
    const shared: Field[] = choose.rarely(3) ? [{ name: "common", type: this.any() }] : [];
    const common = choose.below(2);
    const variants = labels.map((label, i): Variant => {
      const own = i === 0 && choose.below(2) === 0 ? [] : this.fields(3, common ? "v" : `v${i}`);
      return { label: `${tagged}.${label}`, fields: choose.below(2) === 0 ? [...own, ...shared] : [...shared, ...own] };
    });
    const members = labels.map((label, i) => (label === "NONE" ? "NONE" : `${label} = ${[0, 1, 7, 0x80000000][i + (labels[0] === "NONE" ? 0 : 1)]}`));
    this.texts.push(`enum ${tagged} { ${members.join(", ")} }`);
    const tag = choose.of(["tag", "kind"]);
    this.texts.push(`type ${name} =\n${variants.map(({ label, fields }) => `  | { ${list(choose.below(2) === 0 ? [{ name: tag, type: label! }, ...fields] : [...fields, { name: tag, type: label! }])} }`).join("\n")};`);
    this.add({ name, tag, variants });
  }

  /** A record of the world or the core library for types of this program. */
  private addWrapper(): void {
    const { choose } = this;
    const value = this.any();
    const option = (name: string, tag: string, good: Field[], bad: Field[], mustUse: boolean): void => {
      if (!this.recordOf(name)) this.add({ name, tag, variants: [{ label: "false", fields: bad }, { label: "true", fields: good }] }, mustUse);
    };
    switch (choose.below(4)) {
      case 0: return option(`Option<${value}>`, "some", [{ name: "value", type: value }], [], false);
      case 1: return option(`Result<${value}, Fault>`, "ok", [{ name: "value", type: value }], [{ name: "error", type: "Fault" }], true);
      case 2: return option("Status<Fault>", "ok", [], [{ name: "error", type: "Fault" }], true);
      default: {
        const other = this.any();
        const name = `Pair<${value}, ${other}>`;
        if (!this.recordOf(name)) this.add({ name, tag: null, variants: [{ label: null, fields: [{ name: "first", type: value }, { name: "second", type: other }] }] });
      }
    }
  }

  /** A struct; it is generic, since the padding of those is the compiler's. */
  private addStruct(): void {
    const { choose } = this;
    const name = `S${this.structs.length}`;
    const members: string[] = [];
    const fields: Field[] = [];
    const arrays: Field[] = [];
    for (let i = 0, count = 1 + choose.below(5); i < count; i++) {
      const at = `m${i}`;
      switch (choose.below(4)) {
        case 1: {
          const element = choose.of(INTS);
          members.push(`${at}: FixedArray<${element}, ${LENGTH}>;`);
          arrays.push({ name: at, type: element });
          break;
        }
        case 2: {
          const { word, bits } = this.bitField(`${name}${at}`);
          members.push(`${at}: ${word};`);
          fields.push(...bits.map((bit) => ({ ...bit, name: `${at}.${bit.name}` })));
          break;
        }
        default: {
          const type = this.stored();
          members.push(`${at}: ${type};`);
          fields.push({ name: at, type });
        }
      }
    }
    const opening = `type ${name} = ${name}Of<${1 + choose.below(9)}>;\nclass ${name}Of<N extends number> extends Struct {\n  ${members.join(" ")}\n  spare: FixedArray<u8, N>;`;
    this.structs.push({ name, fields, arrays, opening, methods: [] });
  }

  private bitField(name: string): { word: TypeName; bits: Field[] } {
    const { choose } = this;
    const word: Int = choose.of(["u32", "u64", "u8", "u16"]);
    const width = Number(word.slice(1));
    const bits: Field[] = [{ name: "bits", type: word }];
    const texts: string[] = [];
    for (let low = choose.below(4), i = 0; low < width; low += choose.below(8), i++) {
      const size = 1 + choose.below(Math.min(width - low, 20));
      const type = size === 1 ? "boolean" : (["u8", "u16", "u32", "u64"] as const).find((one) => Number(one.slice(1)) >= size)!;
      texts.push(size === 1 ? `b${i}: Bit<${low}>;` : `b${i}: BitRange<${low + size - 1}, ${low}, ${type}>;`);
      bits.push({ name: `b${i}`, type });
      low += size;
    }
    this.texts.push(`class ${name} extends BitField<${word}> { ${texts.join(" ")} }`);
    return { word: name, bits };
  }

  private digestOf(record: RecordShape): string {
    const known = this.digests.get(record.name);
    if (known) return known;
    const name = `digest${this.digests.size}`;
    this.digests.set(record.name, name);
    const sum = (fields: Field[]): string => fields.map((field) => `h = h * 31n + ${this.digest(field.type, `r.${field.name}`)};`).join(" ");
    const cases = record.variants.map(({ label, fields }, i) => `    case ${label}: ${sum(fields)} h += ${i}n; break;`);
    const [no, yes] = record.variants;
    const body = !record.tag ? `  ${sum(no!.fields)}`
      : no!.label === "false" ? `  if (r.${record.tag}) { ${sum(yes!.fields)} } else { ${sum(no!.fields)} h++; }`
      : `  switch (r.${record.tag}) {\n${cases.join("\n")}\n  }`;
    this.texts.push(`function ${name}(r: ${record.name}): u64 {\n  let h: u64 = 17n;\n${body}\n  return h;\n}`);
    return name;
  }
}

export function objectLiteral({ tag }: RecordShape, { label }: Variant, fields: readonly string[]): string {
  return `{ ${[...(label === null ? [] : [`${tag}: ${label}`]), ...fields].join(", ")} }`;
}

function list(fields: readonly Field[]): string {
  return fields.map(({ name, type }) => `${name}: ${type}`).join("; ");
}
