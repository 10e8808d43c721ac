/** Expressions in C. Twin of emit-js/expression.ts. */
import { type Expr, type IntType, type Place, type RecordField, type RecordType, type Type, type Variant, sameInt, wrap } from "../ir.ts";
import { printable } from "../names.ts";
import { castTo } from "./types.ts";

export function expression(value: Expr): string {
  switch (value.kind) {
    case "const": return constant(value.type, value.value, value.name, value.hex);
    case "string": return stringLiteral(value.value);
    case "null": return "NULL";
    case "load": return bytePlace(value) ? `${bytePlace(value)} != 0` : place(value.place);
    case "ref": return reference(value.place);
    case "notNull": return value.site ? `${castTo(value.type)}checkNull(${expression(value.value)}, ${value.site.id})` : expression(value.value);
    case "binary": return binary(value);
    case "shift": return shift(value);
    case "negate": return narrowed(value.type, `0u - ${cast(unsigned(value.type), value.value)}`);
    case "complement": return narrowed(value.type, `~${operand(value.value)}`);
    case "compare": return `${operand(value.left)} ${value.op} ${operand(value.right)}`;
    case "logical": return `${operand(value.left)} ${value.op} ${operand(value.right)}`;
    case "not": {
      const byte = bytePlace(value.value);
      return byte ? `${byte} == 0` : `!${operand(value.value)}`;
    }
    case "conditional": {
      const text = `${operand(value.test)} ? ${operand(value.yes)} : ${operand(value.no)}`;
      return value.type.kind === "int" ? narrowed(value.type, text) : text;
    }
    case "convert": return convert(value);
    case "checkIndex": return `checkIndex(${expression(value.value)}, ${typeof value.length === "number" ? value.length : expression(value.length)}, ${value.site.id})`;
    case "checkRange": return `checkRange(${[value.from, value.to, value.length].map(expression).join(", ")}, ${value.site.id})`;
    case "record":
    case "slice":
      return `${castTo(value.type)}${literal(value)}`;
    case "member": return bytePlace(value) ? `${bytePlace(value)} != 0` : `${base(value.value)}.${memberPath(value.variant, value.field)}`;
    case "sliceLength": return `${base(value.value)}.length`;
    case "call": return `${value.func.cName}(${value.args.map(expression).join(", ")})`;
    case "builtin": return `${value.name}(${value.args.map(expression).join(", ")})`;
    case "atomic": return atomic(value);
    case "placeAddress": return `(uint64_t)&${place(value.place)}`;
    case "refAddress": return `(uint64_t)${operand(value.value)}`;
    case "at": return `${castTo(value.type)}${operand(value.value)}`;
    case "sequence": return `(${[...value.temps.map((temp) => `${temp.local.cName} = ${expression(temp.value)}`), expression(value.value)].join(", ")})`;
  }
}

/** What a variable of its type starts as. */
export function initializer(value: Expr): string {
  return value.kind === "record" || value.kind === "slice" ? literal(value) : expression(value);
}

/** A record or slice in braces. */
function literal(value: Extract<Expr, { kind: "record" | "slice" }>): string {
  if (value.kind === "record") return recordBraces(value.type, value.variant, value.values.map(initializer));
  const start = value.base.type.kind === "slice" ? `${base(value.base)}.data` : expression(value.base);
  const data = value.from ? `${value.base.type.kind === "slice" ? start : operand(value.base)} + ${operand(value.from)}` : start;
  return `{ .data = ${data}, .length = ${expression(value.length)} }`;
}

/** The tag, and the values of a variant's fields. */
export function recordBraces(type: RecordType, variant: Variant, values: string[]): string {
  const fields = variant.fields.map((field, i) => `.${printable(field.name)} = ${values[i]}`);
  const grouped = variant.member ? [`.${printable(variant.member)} = { ${fields.join(", ")} }`] : fields;
  const tag = type.tag ? [`.${printable(type.tag.name)} = ${constant(type.tag.type, variant.value, variant.label)}`] : [];
  return `{ ${[...tag, ...grouped].join(", ")} }`;
}

/** Where a field is in its record: `radius`, `circle.radius`. */
export function memberPath(variant: Variant | null, field: RecordField): string {
  return variant?.member ? `${printable(variant.member)}.${printable(field.name)}` : printable(field.name);
}

/** An expression as an operand of an operator: in parentheses unless it binds tighter than all that have two sides. */
export function operand(value: Expr): string {
  const text = expression(value);
  return isTight(text) ? text : `(${text})`;
}

/** An expression before -> or [ ]. */
function base(value: Expr): string {
  const text = expression(value);
  return isPostfix(text) || isWhole(text) ? text : `(${text})`;
}

/** A name, number, access or call, also behind casts or one of ! ~ &. */
function isTight(text: string): boolean {
  const bare = text.replace(/^(\((?:const )?(?:struct )?\w+ ?\**\))+/, "").replace(/ \/\* [^*]* \*\/$/, "").replace(/^[!~&]/, "");
  return isPostfix(bare) || isWhole(bare);
}

/** A name or number with any accesses and calls after it. */
function isPostfix(text: string): boolean {
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    const character = text[i]!;
    if (character === "(" || character === "[") depth++;
    else if (character === ")" || character === "]") depth--;
    else if (depth === 0 && character === "-" && text[i + 1] === ">") i++;
    else if (depth === 0 && !/[\w.]/.test(character)) return false;
  }
  return /^\w/.test(text);
}

/** Whether the first parenthesis closes at the end. */
function isWhole(text: string): boolean {
  if (!text.startsWith("(")) return false;
  let depth = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "(") depth++;
    if (text[i] === ")" && --depth === 0) return i === text.length - 1;
  }
  return false;
}

export function place(where: Place): string {
  switch (where.kind) {
    case "local": return where.local.cName;
    case "static": return where.static.cName;
    case "field": {
      const name = printable(where.field.name);
      if (where.base.kind === "ref") return `${place(where.base.place)}.${name}`;
      return `${base(where.base)}->${name}`;
    }
    case "element": {
      if (where.base.type.kind === "slice") return `${base(where.base)}.data[${expression(where.index)}]`;
      const array = where.base.kind === "ref" ? place(where.base.place) : base(where.base);
      return `${array}[${expression(where.index)}]`;
    }
  }
}

/** The text of a boolean in memory or in a record, which is a byte that may hold anything; null for other values. */
function bytePlace(value: Expr): string | null {
  if (value.type.kind !== "bool") return null;
  if (value.kind === "load" && value.place.kind !== "local" && value.place.kind !== "static") return place(value.place);
  return value.kind === "member" ? `${base(value.value)}.${memberPath(value.variant, value.field)}` : null;
}

function reference(where: Place): string {
  if (where.kind === "static" && where.static.constant) return `${castTo({ kind: "ref", target: where.type as never, nullable: false })}${place(where)}`;
  return where.type.kind === "struct" ? `&${place(where)}` : place(where);
}

function binary(value: Extract<Expr, { kind: "binary" }>): string {
  const { type, op, left, right, site } = value;
  if (site && (op === "+" || op === "-" || op === "*")) {
    const name = { "+": "add", "-": "sub", "*": "mul" }[op];
    return `${name}${type.signed ? "I" : "U"}${type.bits}(${expression(left)}, ${expression(right)}, ${site.id})`;
  }
  if (op === "/" || op === "%") {
    const divisor = site ? `nonZero${type.bits}(${type.signed ? cast(unsigned(type), right) : expression(right)}, ${site.id})` : operand(right);
    if (type.signed) return `${op === "/" ? "divide" : "remainder"}I${type.bits}(${expression(left)}, ${castTo(type)}${divisor})`;
    return narrowed(type, `${operand(left)} ${op} ${divisor}`);
  }
  if (op === "&" || op === "|" || op === "^") return narrowed(type, `${operand(left)} ${op} ${operand(right)}`);
  if (type.signed || type.bits < 32) {
    const wide: IntType = { kind: "int", bits: type.bits === 64 ? 64 : 32, signed: false };
    return `${castTo(type)}(${cast(wide, left)} ${op} ${cast(wide, right)})`;
  }
  return `${operand(left)} ${op} ${operand(right)}`;
}

function shift(value: Extract<Expr, { kind: "shift" }>): string {
  const { type, op, left, right } = value;
  if (op === ">>") return narrowed(type, `${operand(left)} >> ${operand(right)}`);
  if (!type.signed && type.bits >= 32) return `${operand(left)} << ${operand(right)}`;
  const wide: IntType = { kind: "int", bits: type.bits === 64 ? 64 : 32, signed: false };
  return `${castTo(type)}(${cast(wide, left)} << ${operand(right)})`;
}

/** C computes in int at least; this brings the result back. */
function narrowed(type: IntType, text: string): string {
  return type.bits < 32 || (type.signed && text.startsWith("0u")) ? `${castTo(type)}(${text})` : text;
}

function convert(value: Extract<Expr, { kind: "convert" }>): string {
  const { type, site } = value;
  const from = value.value.type;
  if (!site) return cast(type, value.value);
  if (from.kind !== "int") throw new Error(from.kind);
  if (!from.signed) return `${castTo(type)}checkUnsigned(${expression(value.value)}, ${value.limit === undefined ? limit(type, "max") : number({ ...type, bits: 64 }, value.limit, true)}, ${site.id})`;
  return `${castTo(type)}checkSigned(${expression(value.value)}, ${limit(type, "min")}, ${limit(type, "max")}, ${site.id})`;
}

function limit(type: IntType, end: "min" | "max"): string {
  if (!type.signed) return end === "min" ? "0" : type.bits === 64 ? "INT64_MAX" : `UINT${type.bits}_MAX`;
  return `INT${type.bits}_${end.toUpperCase()}`;
}

function atomic(value: Extract<Expr, { kind: "atomic" }>): string {
  const pointer = `&${place(value.place)}`;
  const argument = value.value ? `, ${expression(value.value)}` : "";
  return `${value.op}${(value.place.type as IntType).bits}(${pointer}${argument})`;
}

function cast(type: IntType, value: Expr): string {
  if (value.type.kind === "int" && sameInt(value.type, type)) return operand(value);
  if (value.kind === "const") return constant(type, wrap(value.value, type), value.name, value.hex);
  return `${castTo(type)}${operand(value)}`;
}

function unsigned(type: IntType): IntType {
  return { kind: "int", bits: type.bits, signed: false };
}

export function constant(type: Type, value: bigint, name?: string, hex?: boolean): string {
  if (type.kind === "bool") return value ? "true" : "false";
  if (type.kind !== "int") throw new Error(type.kind);
  const text = number(type, value, hex ?? value > 0xffffn);
  return name && !/^\d+$/.test(name) ? `${text} /* ${name.replaceAll("*/", "* /")} */` : text;
}

function number(type: IntType, value: bigint, hex: boolean): string {
  const suffix = type.bits === 64 ? "l" : "";
  const smallest = -(1n << BigInt(type.bits - 1));
  if (type.signed && value === smallest && type.bits >= 32) return `(-${-(value + 1n)}${suffix} - 1)`;
  if (value < 0n) return `(${value}${suffix})`;
  const digits = hex ? `0x${value.toString(16)}` : value.toString();
  return `${digits}${type.signed || type.bits < 32 ? "" : "u"}${suffix}`;
}

export function stringLiteral(text: string): string {
  let out = "";
  for (const byte of Buffer.from(text, "utf8")) {
    const character = String.fromCharCode(byte);
    if (character === '"' || character === "\\") out += `\\${character}`;
    else if (character === "\n") out += "\\n";
    else if (byte < 0x20 || byte > 0x7e || character === "?") out += `\\${byte.toString(8).padStart(3, "0")}`;
    else out += character;
  }
  return `"${out}"`;
}

