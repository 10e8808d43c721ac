/** Constant expressions: those that lower to a single constant. Arithmetic on them is exact until they meet a type. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { type EnumDecl, type Expr, INTS, type IntType, type LiteralType, type Type, fits, wrap } from "../ir.ts";
import { type Front, constantScope, hasTag } from "./front.ts";
import { lowerExpression } from "./lower-expression.ts";

export type Const = Extract<Expr, { kind: "const" }>;

export const NUMBER: LiteralType = { kind: "literal", js: "number", complement: false };
export const BIGINT: LiteralType = { kind: "literal", js: "bigint", complement: false };

/** Evaluates an expression that has to be constant. */
export function constantOf(front: Front, node: ts.Expression, expected?: Type): Const {
  const scope = constantScope(front);
  const value = lowerExpression(scope, node, expected);
  if (value.kind !== "const") throw refuse.notConstant(front.loc(node));
  return value;
}

/** The number that a constant node has in a type position, or null. */
export function constantNumber(front: Front, node: ts.Node): number | null {
  const value = lowerExpression(constantScope(front), node as ts.Expression);
  return value.kind === "const" && value.type.kind !== "bool" ? Number(value.value) : null;
}

/** A constant in an integer type, or null if it does not fit. */
export function fitConstant(value: Const, type: IntType): Const | null {
  const complement = value.type.kind === "literal" && value.type.complement;
  if (fits(value.value, type)) return { ...value, type };
  if (complement && value.value < 0n && !type.signed && value.value >= -(1n << BigInt(type.bits))) {
    return { ...value, type, value: wrap(value.value, type) };
  }
  return null;
}

export function fold(op: string, a: bigint, b: bigint): bigint {
  switch (op) {
    case "+": return a + b;
    case "-": return a - b;
    case "*": return a * b;
    case "/": return a / b;
    case "%": return a % b;
    case "&": return a & b;
    case "|": return a | b;
    case "^": return a ^ b;
    case "<<": return a << b;
    case ">>": return a >> b;
    default: throw new Error(op);
  }
}

export function foldCompare(op: string, a: bigint, b: bigint): boolean {
  switch (op) {
    case "==": return a === b;
    case "!=": return a !== b;
    case "<": return a < b;
    case "<=": return a <= b;
    case ">": return a > b;
    case ">=": return a >= b;
    default: throw new Error(op);
  }
}

/** An enumeration's members; a member without a value is one more than the one before. */
export function enumOf(front: Front, node: ts.EnumDeclaration): EnumDecl {
  const known = front.enums.get(node);
  if (known) return known;
  if ((front.symbolOf(node.name)?.declarations?.length ?? 1) > 1) throw refuse.enumParts(front.loc(node.name), node.name.text);
  const members = new Map<string, bigint>();
  const declaration: EnumDecl = { name: node.name.text, members, mustUse: hasTag(node, "mustUse") };
  front.enums.set(node, declaration);
  let next = 0n;
  for (const member of node.members) {
    if (!ts.isIdentifier(member.name)) throw refuse.enumMember(front.loc(member));
    if (member.initializer && ts.isStringLiteral(member.initializer)) throw refuse.enumMember(front.loc(member));
    if (member.initializer) next = constantOf(front, member.initializer).value;
    if (!fits(next, INTS.u32)) throw refuse.enumMember(front.loc(member));
    members.set(member.name.text, next);
    next++;
  }
  return declaration;
}
