/** Conversions between integers: u8(x) checks, wrapU8(x) keeps the low bits, x as SomeEnum names. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { type Expr, INTS, type IntType, fits, maxOf, minOf, sameInt, typeName, wrap } from "../ir.ts";
import { fitConstant } from "./constants.ts";
import type { Scope } from "./front.ts";
import { lowerAs } from "./coerce.ts";
import { isParameter } from "./instance.ts";
import { lowerExpression } from "./lower-expression.ts";
import { largest, smallest } from "./ranges.ts";
import { site } from "./sites.ts";
import { typeOfNode } from "./types.ts";

/** The builtin conversions by name. */
export const CONVERSIONS: Record<string, { type: IntType; wraps: boolean }> = Object.fromEntries(
  Object.entries(INTS).flatMap(([name, type]) => [
    [name, { type, wraps: false }],
    [`wrap${name.toUpperCase()}`, { type, wraps: true }],
  ]),
);

export function lowerConversion(scope: Scope, node: ts.CallExpression, type: IntType, wraps: boolean): Expr {
  const argument = node.arguments[0]!;
  const value = lowerExpression(scope, argument, { ...type, weak: true });
  const from = value.type;
  if (from.kind === "bool") {
    if (value.kind === "const") return { ...value, type };
    return { kind: "convert", type, value, site: null };
  }
  if (from.kind !== "int" && from.kind !== "literal") throw refuse.needsInteger(scope.front.loc(argument), typeName(type), typeName(from));
  if (value.kind === "const") {
    if (wraps) return { ...value, type, value: wrap(value.value, type) };
    const fitted = fitConstant(value, type);
    if (!fitted) throw refuse.conversionRange(scope.front.loc(node), value.value, typeName(type));
    return fitted;
  }
  if (from.kind === "int" && sameInt(from, type)) return { ...value, type } as Expr;
  const always = wraps || (smallest(value) >= minOf(type) && largest(value) <= maxOf(type));
  return { kind: "convert", type, value, site: always ? null : site(scope, node, `value outside ${typeName(type)}`) };
}

export function lowerAsExpression(scope: Scope, node: ts.AsExpression): Expr {
  const { front } = scope;
  if (node.type.getText() === "const") throw front.refuse(node, "cast");
  const type = typeOfNode(front, node.type);
  // tsc takes `a + b` of a type parameter for a number: `as T` says what it is, and changes nothing.
  if (isParameter(front, node.type)) return lowerAs(scope, node.expression, type);
  if (type.kind !== "int" || !type.enum) throw front.refuse(node, "cast");
  const value = lowerExpression(scope, node.expression, INTS.u32);
  if (value.type.kind !== "int" && value.type.kind !== "literal") throw front.refuse(node, "cast");
  if (value.kind === "const") {
    if (!fits(value.value, INTS.u32)) throw refuse.conversionRange(front.loc(node), value.value, "u32");
    return { ...value, type };
  }
  if (value.type.kind === "int" && sameInt(value.type, type)) return { ...value, type } as Expr;
  const always = smallest(value) >= 0n && largest(value) <= maxOf(type);
  return { kind: "convert", type, value, site: always ? null : site(scope, node, "value outside u32") };
}
