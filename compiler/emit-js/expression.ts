/** Expressions in JavaScript. Twin of emit-c/expression.ts. */
import { type Expr, type IntType, type Place, type RecordType, type Type, type Variant, isAggregate, maxOf, minOf, sameInt } from "../ir.ts";
import { sizeOf } from "../layout.ts";
import { printable } from "../names.ts";
import type { Frame } from "./frame.ts";

export function expression(frame: Frame, value: Expr): string {
  const expr = (one: Expr): string => expression(frame, one);
  const operand = (one: Expr): string => parenthesised(expr(one));
  switch (value.kind) {
    case "const": return constant(value.type, value.value);
    case "string": return JSON.stringify(value.value);
    case "null": return "0";
    case "load": return load(frame, value.place);
    case "ref": return address(frame, value.place);
    case "notNull": return value.site ? `rt.checkNull(${expr(value.value)}, ${value.site.id})` : expr(value.value);
    case "binary": return binary(value, operand(value.left), operand(value.right));
    case "shift": return shift(value, operand(value.left), operand(value.right));
    case "negate": return wrapped(value.type, `-${operand(value.value)}`);
    case "complement": return wrapped(value.type, `~${operand(value.value)}`);
    case "compare": return `${operand(value.left)} ${value.op === "==" || value.op === "!=" ? `${value.op}=` : value.op} ${operand(value.right)}`;
    case "logical": return `${operand(value.left)} ${value.op} ${operand(value.right)}`;
    case "not": return `!${operand(value.value)}`;
    case "conditional": return `${operand(value.test)} ? ${operand(value.yes)} : ${operand(value.no)}`;
    case "convert": return convert(value, expr(value.value), operand(value.value));
    case "checkIndex": return `rt.checkIndex(${expr(value.value)}, ${typeof value.length === "number" ? value.length : expr(value.length)}, ${value.site.id})`;
    case "checkRange": return `rt.checkSlice(${[value.from, value.to, value.length].map(expr).join(", ")}, ${value.site.id})`;
    case "record": return recordText(value.type, value.variant, value.values.map(expr));
    case "member": return memberText(frame, value);
    case "slice": return sliceText(frame, value);
    case "sliceLength": return `${parenthesised(expr(value.value))}.length`;
    case "call": return `${value.func.body ? "" : "rt.externals."}${value.func.cName}(${value.args.map(expr).join(", ")})`;
    case "builtin": return `rt.${value.name}(${value.args.map(expr).join(", ")})`;
    case "atomic": {
      const argument = value.value ? `, ${expr(value.value)}` : "";
      return `rt.${value.op}${(value.place.type as IntType).bits}(${address(frame, value.place)}${argument})`;
    }
    case "placeAddress": return `BigInt(${address(frame, value.place)})`;
    case "refAddress": return `BigInt(${expr(value.value)})`;
    case "at": return `rt.address(${expr(value.value)})`;
    case "sequence": return `(${[...value.temps.map((temp) => `${temp.local.cName} = ${expr(temp.value)}`), expr(value.value)].join(", ")})`;
  }
}

/** Records and slices are objects that nobody changes. */
export function recordText(type: RecordType, variant: Variant, values: string[]): string {
  const fields = variant.fields.map((field, i) => `${printable(field.name)}: ${values[i]}`);
  if (type.tag) fields.unshift(`${printable(type.tag.name)}: ${constant(type.tag.type, variant.value)}`);
  return `({ ${fields.join(", ")} })`;
}

/** In memory just the one field is read. */
function memberText(frame: Frame, value: Extract<Expr, { kind: "member" }>): string {
  const { field, value: record } = value;
  if (record.kind === "load" && !isVariable(frame, record.place)) return loadAt(field.type, plus(address(frame, record.place), field.offset));
  return `${parenthesised(expression(frame, record))}.${printable(field.name)}`;
}

function sliceText(frame: Frame, value: Extract<Expr, { kind: "slice" }>): string {
  const { base, from, length, type } = value;
  const start = base.type.kind === "slice" ? `${parenthesised(expression(frame, base))}.data` : expression(frame, base);
  const size = sizeOf(type.element);
  const data = from ? `${start} + ${parenthesised(expression(frame, from))}${size === 1 ? "" : ` * ${size}`}` : start;
  return `({ data: ${data}, length: ${expression(frame, length)} })`;
}

function plus(address: string, offset: number): string {
  return offset === 0 ? address : `${address} + ${offset}`;
}

/** A text as an operand: a name, number or call stands alone. */
function parenthesised(text: string): string {
  return /^[\w$.]+(\([\w$., +]*\))?$/.test(text) ? text : `(${text})`;
}

/** The address of a place in memory. */
export function address(frame: Frame, place: Place): string {
  switch (place.kind) {
    case "local": return `($fp + ${frame.offsets.get(place.local)})`;
    case "static": return `$${place.static.cName}`;
    case "field": return place.field.offset === 0 ? expression(frame, place.base) : `(${expression(frame, place.base)} + ${place.field.offset})`;
    case "element": {
      const size = sizeOf(place.type);
      const base = place.base.type.kind === "slice" ? `${parenthesised(expression(frame, place.base))}.data` : expression(frame, place.base);
      if (place.index.kind === "const") return `(${base} + ${Number(place.index.value) * size})`;
      return `(${base} + ${parenthesised(expression(frame, place.index))}${size === 1 ? "" : ` * ${size}`})`;
    }
  }
}

function isVariable(frame: Frame, place: Place): string | null {
  return place.kind === "local" && !frame.offsets.has(place.local) ? place.local.cName : null;
}

function load(frame: Frame, place: Place): string {
  return isVariable(frame, place) ?? loadAt(place.type, address(frame, place));
}

/** What memory holds at an address. */
export function loadAt(type: Type, at: string): string {
  switch (type.kind) {
    case "bool": return `rt.memory.get8(${at}) !== 0`;
    case "ref": return `rt.memory.getAddress(${at})`;
    case "record": return `$load${type.cName}(${at})`;
    case "slice": return `rt.loadSlice(${at})`;
    case "int": {
      const raw = `rt.memory.get${type.bits}(${at})`;
      return type.signed ? wrapped(type, raw) : raw;
    }
    default: throw new Error(type.kind);
  }
}

/** The statement, without semicolon, that writes a place. */
export function store(frame: Frame, place: Place, value: string): string {
  const variable = isVariable(frame, place);
  return variable ? `${variable} = ${value}` : storeAt(place.type, address(frame, place), value);
}

export function storeAt(type: Type, at: string, value: string): string {
  switch (type.kind) {
    case "bool": return `rt.memory.set8(${at}, ${value} ? 1 : 0)`;
    case "ref": return `rt.memory.setAddress(${at}, ${value})`;
    case "record": return `$store${type.cName}(${at}, ${value})`;
    case "slice": return `rt.storeSlice(${at}, ${value})`;
    case "int": return `rt.memory.set${type.bits}(${at}, ${value})`;
    default: throw new Error(type.kind);
  }
}

/** A result brought back to the width of its type. */
function wrapped(type: IntType, text: string): string {
  if (type.bits === 64) return `BigInt.as${type.signed ? "Int" : "Uint"}N(64, ${text})`;
  if (type.bits === 32) return type.signed ? `${text} | 0` : `${text} >>> 0`;
  if (!type.signed) return `${text} & ${type.bits === 8 ? "0xff" : "0xffff"}`;
  return `${text} << ${32 - type.bits} >> ${32 - type.bits}`;
}

function binary(value: Extract<Expr, { kind: "binary" }>, left: string, right: string): string {
  const { type, op, site } = value;
  if (site && (op === "+" || op === "-" || op === "*")) {
    // Below 64 bits a number holds the exact result, or one that is far outside.
    const suffix = type.bits === 64 ? "n" : "";
    return wrapped(type, `rt.checkRange(${left} ${op} ${right}, ${minOf(type)}${suffix}, ${maxOf(type)}${suffix}, ${site.id})`);
  }
  const divisor = site ? `rt.nonZero(${right}, ${site.id})` : right;
  const wide = type.bits === 64;
  switch (op) {
    case "+":
    case "-":
      return wrapped(type, wide ? `${left} ${op} ${right}` : `(${left} ${op} ${right})`);
    case "*": return wrapped(type, wide ? `${left} * ${right}` : `Math.imul(${left}, ${right})`);
    case "/": return wide && !type.signed ? `${left} / ${divisor}` : wrapped(type, wide ? `${left} / ${divisor}` : `(${left} / ${divisor})`);
    case "%": return wide || !type.signed ? `${left} % ${divisor}` : `(${left} % ${divisor}) | 0`;
    default: return type.bits === 32 && !type.signed ? `(${left} ${op} ${right}) >>> 0` : `${left} ${op} ${right}`;
  }
}

function shift(value: Extract<Expr, { kind: "shift" }>, left: string, right: string): string {
  const { type, op } = value;
  if (op === "<<") return wrapped(type, type.bits === 64 ? `${left} << ${right}` : `(${left} << ${right})`);
  return type.bits === 64 || type.signed ? `${left} >> ${right}` : `${left} >>> ${right}`;
}

function convert(value: Extract<Expr, { kind: "convert" }>, text: string, operand: string): string {
  const { type, site } = value;
  const from = value.value.type;
  if (from.kind === "bool") return type.bits === 64 ? `${operand} ? 1n : 0n` : `${operand} ? 1 : 0`;
  if (from.kind !== "int") throw new Error(from.kind);
  const checked = site ? `rt.checkRange(${text}, ${inType(from, minOf(type))}, ${inType(from, value.limit ?? maxOf(type))}, ${site.id})` : operand;
  const exact = site !== null || (minOf(from) >= minOf(type) && maxOf(from) <= maxOf(type));
  if (from.bits === 64) {
    if (type.bits === 64) return exact ? checked : wrapped(type, checked);
    return exact ? `Number(${checked})` : `Number(BigInt.as${type.signed ? "Int" : "Uint"}N(${type.bits}, ${checked}))`;
  }
  if (type.bits === 64) return exact ? `BigInt(${checked})` : wrapped(type, `BigInt(${checked})`);
  return exact || sameInt(from, type) ? checked : wrapped(type, checked);
}

/** A limit as the source type of a conversion has it; what lies outside of it can't be exceeded. */
function inType(from: IntType, limit: bigint): string {
  return from.bits === 64 ? `${limit}n` : `${limit}`;
}

export function constant(type: Type, value: bigint): string {
  if (type.kind === "bool") return value ? "true" : "false";
  if (type.kind !== "int") throw new Error(type.kind);
  return type.bits === 64 ? `${value}n` : `${value}`;
}

export function zero(type: Type): string {
  if (type.kind === "int") return type.bits === 64 ? "0n" : "0";
  if (type.kind === "bool") return "false";
  if (type.kind === "string") return '""';
  if (type.kind === "record" || type.kind === "slice") return "undefined"; // tsc has seen to it that nobody reads it
  if (isAggregate(type)) throw new Error("storage");
  return "0";
}
