/** Bit fields: parts of a struct's one word, read and written by shifts and masks. */
import { ts } from "./typescript.cjs";
import { type BitField, BOOL, type Expr, type IntType, type Place, type Stmt, type Temp, wrap } from "../ir.ts";
import { refuse } from "../diagnostics.ts";
import { coerce, nonNull } from "./coerce.ts";
import { type Scope, isBits } from "./front.ts";
import { lowerExpression } from "./lower-expression.ts";
import { ordered, stabilise } from "./order.ts";
import { largest } from "./ranges.ts";
import { site } from "./sites.ts";

export interface Bits { word: Place; field: BitField }

/** The bit field that `s.name` stands for, or null. */
export function bitFieldOf(scope: Scope, node: ts.Expression): Bits | null {
  if (ts.isParenthesizedExpression(node)) return bitFieldOf(scope, node.expression);
  if (!ts.isPropertyAccessExpression(node) || !namesBits(scope, node)) return null;
  const base = lowerExpression(scope, node.expression);
  return base.type.kind === "ref" ? bitsIn(nonNull(scope, base, node.expression), node.name.text) : null;
}

/** Whether a property is declared as Bit or BitRange; asked first, so that nothing is lowered twice. */
function namesBits(scope: Scope, node: ts.PropertyAccessExpression): boolean {
  if (!scope.front.bitNames.has(node.name.text)) return false; // most are none, and tsc takes a while to find a declaration
  const declaration = scope.front.declarationOf(node.name);
  return declaration !== undefined && ts.isPropertyDeclaration(declaration) && isBits(declaration);
}

export function bitsIn(base: Expr, name: string): Bits | null {
  const struct = base.type.kind === "ref" && base.type.target.kind === "struct" ? base.type.target : null;
  const field = struct?.bitFields.get(name);
  const [bits] = struct?.fields ?? [];
  return field && bits ? { word: { kind: "field", type: bits.type, base, field: bits }, field } : null;
}

export function readBits({ word, field }: Bits): Expr {
  const type = word.type as IntType;
  const load: Expr = { kind: "load", type, place: word };
  const mask = (1n << BigInt(field.width)) - 1n;
  if (field.type.kind === "bool") {
    const masked: Expr = { kind: "binary", type, op: "&", left: load, right: constant(type, 1n << BigInt(field.low)), site: null };
    return { kind: "compare", type: BOOL, op: "!=", left: masked, right: constant(type, 0n) };
  }
  const count: IntType = { kind: "int", bits: type.bits === 64 ? 64 : 32, signed: false };
  const shifted: Expr = field.low === 0 ? load : { kind: "shift", type, op: ">>", left: load, right: constant(count, BigInt(field.low)) };
  const masked: Expr = field.low + field.width === type.bits ? shifted
    : { kind: "binary", type, op: "&", left: shifted, right: constant(type, mask), site: null };
  return field.type.bits === type.bits ? { ...masked, type: field.type } as Expr : { kind: "convert", type: field.type, value: masked, site: null };
}

/** Puts a value into its bits; a value that does not fit them traps. The value is computed before the word is read. */
export function assignBits(scope: Scope, node: ts.Expression, { word, field }: Bits, value: Expr): Stmt[] {
  const type = word.type as IntType;
  const mask = ((1n << BigInt(field.width)) - 1n) << BigInt(field.low);
  const temps: Temp[] = [];
  const place = stabilise(scope, word, temps);
  const operands = [fitted(scope, node, coerce(scope, value, field.type, node), type, field), { kind: "load", type, place } as Expr];
  const merged = ordered(scope, operands, ([bits, old]) => {
    const kept: Expr = { kind: "binary", type, op: "&", left: old!, right: constant(type, wrap(~mask, type)), site: null };
    if (bits!.kind === "const" && bits!.value === 0n) return kept;
    return { kind: "binary", type, op: "|", left: kept, right: bits!, site: null };
  });
  return [{ kind: "assign", loc: scope.front.loc(node), temps, place, value: merged }];
}

/** The value in the word's type, where its bits are to be. */
function fitted(scope: Scope, node: ts.Expression, value: Expr, type: IntType, field: BitField): Expr {
  const limit = (1n << BigInt(field.width)) - 1n;
  if (value.kind === "const") {
    if (value.value > limit) throw refuse.literalRange(scope.front.loc(node), value.value, `${field.width} bits`);
    return { ...constant(type, value.value << BigInt(field.low)), name: value.name } as Expr;
  }
  const check = value.type.kind === "int" && largest(value) > limit ? site(scope, node, `value outside ${field.width} bits`) : null;
  const inWord: Expr = { kind: "convert", type, value, site: check, limit };
  if (field.low === 0) return inWord;
  const count: IntType = { kind: "int", bits: type.bits === 64 ? 64 : 32, signed: false };
  return { kind: "shift", type, op: "<<", left: inWord, right: constant(count, BigInt(field.low)) };
}

function constant(type: IntType, value: bigint): Expr {
  return { kind: "const", type, value, hex: value > 9n };
}
