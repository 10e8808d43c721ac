/** Operators. Both sides have one integer type; constants take the other side's. */
import { ts } from "./typescript.cjs";
import { type Construct, refuse } from "../diagnostics.ts";
import {
  type ArithmeticOp, BOOL, type CompareOp, type Expr, type IntType, type LiteralType, type ShiftOp, type Type, sameInt, sameStorage, typeName, wrap,
} from "../ir.ts";
import { coerce } from "./coerce.ts";
import { type Const, fitConstant, fold, foldCompare } from "./constants.ts";
import type { Scope } from "./front.ts";
import { lowerCondition, lowerExpression } from "./lower-expression.ts";
import { ordered } from "./order.ts";
import { largest } from "./ranges.ts";
import { site } from "./sites.ts";

const ARITHMETIC: Partial<Record<ts.SyntaxKind, ArithmeticOp>> = {
  [ts.SyntaxKind.PlusToken]: "+",
  [ts.SyntaxKind.MinusToken]: "-",
  [ts.SyntaxKind.AsteriskToken]: "*",
  [ts.SyntaxKind.SlashToken]: "/",
  [ts.SyntaxKind.PercentToken]: "%",
  [ts.SyntaxKind.AmpersandToken]: "&",
  [ts.SyntaxKind.BarToken]: "|",
  [ts.SyntaxKind.CaretToken]: "^",
};

const SHIFT: Partial<Record<ts.SyntaxKind, ShiftOp>> = {
  [ts.SyntaxKind.LessThanLessThanToken]: "<<",
  [ts.SyntaxKind.GreaterThanGreaterThanToken]: ">>",
};

const COMPARE: Partial<Record<ts.SyntaxKind, CompareOp>> = {
  [ts.SyntaxKind.EqualsEqualsEqualsToken]: "==",
  [ts.SyntaxKind.ExclamationEqualsEqualsToken]: "!=",
  [ts.SyntaxKind.LessThanToken]: "<",
  [ts.SyntaxKind.LessThanEqualsToken]: "<=",
  [ts.SyntaxKind.GreaterThanToken]: ">",
  [ts.SyntaxKind.GreaterThanEqualsToken]: ">=",
};

const REFUSED: Partial<Record<ts.SyntaxKind, Construct>> = {
  [ts.SyntaxKind.EqualsEqualsToken]: "looseEquality",
  [ts.SyntaxKind.ExclamationEqualsToken]: "looseEquality",
  [ts.SyntaxKind.GreaterThanGreaterThanGreaterThanToken]: "unsignedShift",
  [ts.SyntaxKind.AsteriskAsteriskToken]: "power",
  [ts.SyntaxKind.QuestionQuestionToken]: "optionalChain",
  [ts.SyntaxKind.CommaToken]: "comma",
  [ts.SyntaxKind.InstanceOfKeyword]: "typeOf",
  [ts.SyntaxKind.InKeyword]: "typeOf",
};

/** The operator of a compound assignment, as the operator alone. */
export const COMPOUND: Partial<Record<ts.SyntaxKind, ts.SyntaxKind>> = {
  [ts.SyntaxKind.PlusEqualsToken]: ts.SyntaxKind.PlusToken,
  [ts.SyntaxKind.MinusEqualsToken]: ts.SyntaxKind.MinusToken,
  [ts.SyntaxKind.AsteriskEqualsToken]: ts.SyntaxKind.AsteriskToken,
  [ts.SyntaxKind.SlashEqualsToken]: ts.SyntaxKind.SlashToken,
  [ts.SyntaxKind.PercentEqualsToken]: ts.SyntaxKind.PercentToken,
  [ts.SyntaxKind.AmpersandEqualsToken]: ts.SyntaxKind.AmpersandToken,
  [ts.SyntaxKind.BarEqualsToken]: ts.SyntaxKind.BarToken,
  [ts.SyntaxKind.CaretEqualsToken]: ts.SyntaxKind.CaretToken,
  [ts.SyntaxKind.LessThanLessThanEqualsToken]: ts.SyntaxKind.LessThanLessThanToken,
  [ts.SyntaxKind.GreaterThanGreaterThanEqualsToken]: ts.SyntaxKind.GreaterThanGreaterThanToken,
};

export function isAssignment(kind: ts.SyntaxKind): boolean {
  return kind >= ts.SyntaxKind.FirstAssignment && kind <= ts.SyntaxKind.LastAssignment;
}

export function lowerBinary(scope: Scope, node: ts.BinaryExpression, expected: Type | undefined): Expr {
  const token = node.operatorToken.kind;
  if (isAssignment(token)) throw scope.front.refuse(node, "nestedAssignment");
  if (token === ts.SyntaxKind.AmpersandAmpersandToken) return logical(scope, node, "&&");
  if (token === ts.SyntaxKind.BarBarToken) return logical(scope, node, "||");
  const refused = REFUSED[token];
  if (refused) throw scope.front.refuse(node.operatorToken, refused);
  const comparison = COMPARE[token];
  const left = lowerExpression(scope, node.left, comparison ? undefined : expected);
  const isShift = SHIFT[token] !== undefined;
  const right = lowerExpression(scope, node.right, comparison || isShift ? undefined : expected);
  if (comparison) return compare(scope, node, comparison, left, right);
  return arithmetic(scope, token, left, right, node, node.left, node.right, expected);
}

/** The value of `left op right`; the nodes say where to point. */
export function arithmetic(scope: Scope, token: ts.SyntaxKind, left: Expr, right: Expr, node: ts.Node, leftNode: ts.Node, rightNode: ts.Node, expected?: Type): Expr {
  const shiftOp = SHIFT[token];
  if (shiftOp) return shift(scope, shiftOp, left, right, leftNode, rightNode, expected);
  const op = ARITHMETIC[token];
  if (!op) throw scope.front.refuse(node, "other");
  needInteger(scope, op, left, leftNode);
  needInteger(scope, op, right, rightNode);
  if (left.kind === "const" && right.kind === "const") return foldBinary(scope, op, left, right, node);
  const [l, r, type] = unify(scope, op, left, right, node, leftNode, rightNode);
  if (op === "+" || op === "*" || op === "-" || op === "&" || op === "|" || op === "^") {
    return ordered(scope, [l, r], ([a, b]) => ({ kind: "binary", type, op, left: a!, right: b!, site: null }));
  }
  const zeroConstant = r.kind === "const" && r.value === 0n;
  if (zeroConstant) throw refuse.constantZeroDivide(scope.front.loc(rightNode));
  const check = r.kind === "const" ? null : site(scope, node, "division by zero");
  return ordered(scope, [l, r], ([a, b]) => ({ kind: "binary", type, op, left: a!, right: b!, site: check }));
}

/** Both operands in one type. An address or enumeration loses its name in arithmetic. */
function unify(scope: Scope, op: string, left: Expr, right: Expr, node: ts.Node, leftNode: ts.Node, rightNode: ts.Node): [Expr, Expr, IntType] {
  if (left.type.kind === "literal") {
    const type = plain(right.type as IntType);
    return [coerce(scope, left, type, leftNode), right, type];
  }
  if (right.type.kind === "literal") {
    const type = plain(left.type as IntType);
    return [left, coerce(scope, right, type, rightNode), type];
  }
  const leftType = left.type as IntType;
  const rightType = right.type as IntType;
  if (sameInt(leftType, rightType)) return [left, right, plain(leftType)];
  const leftFitted = left.kind === "const" ? fitConstant(left, plain(rightType)) : null;
  if (leftFitted) return [leftFitted, right, plain(rightType)];
  const rightFitted = right.kind === "const" ? fitConstant(right, plain(leftType)) : null;
  if (rightFitted) return [left, rightFitted, plain(leftType)];
  const narrow = leftType.bits <= rightType.bits ? leftNode : rightNode;
  const wide = leftType.bits <= rightType.bits ? rightType : leftType;
  throw refuse.mixedIntegers(scope.front.loc(node), op, typeName(leftType), typeName(rightType), `${typeName(plain(wide))}(${narrow.getText()})`);
}

function plain(type: IntType): IntType {
  return { kind: "int", bits: type.bits, signed: type.signed };
}

function needInteger(scope: Scope, op: string, value: Expr, node: ts.Node): void {
  if (value.type.kind === "string") throw scope.front.refuse(node, "stringOperation");
  if (value.type.kind !== "int" && value.type.kind !== "literal") {
    throw refuse.needsInteger(scope.front.loc(node), op, typeName(value.type));
  }
}

function foldBinary(scope: Scope, op: string, left: Const, right: Const, node: ts.Node): Expr {
  if ((op === "/" || op === "%") && right.value === 0n) throw refuse.constantZeroDivide(scope.front.loc(node));
  const exact = fold(op, left.value, right.value);
  const name = foldedName(left, op, right);
  const hex = left.hex || right.hex || undefined;
  if (left.type.kind === "literal" && right.type.kind === "literal") {
    const type: LiteralType = { ...left.type, complement: left.type.complement || right.type.complement };
    return { kind: "const", type, value: exact, name, hex };
  }
  const [l, r, type] = unify(scope, op, left, right, node, node, node);
  return { kind: "const", type, value: wrap(fold(op, (l as Const).value, (r as Const).value), type), name, hex };
}

/** How a folded constant is shown, if names took part in it. */
function foldedName(left: Const, op: string, right: Const): string | undefined {
  if (!left.name && !right.name) return undefined;
  const name = `${nameOf(left)} ${op} ${nameOf(right)}`;
  return name.length < 60 ? name : undefined;
}

function nameOf({ name, value }: Const): string {
  return name?.includes(" ") ? `(${name})` : (name ?? shown(value));
}

function shown(value: bigint): string {
  return value > 999n ? `0x${value.toString(16)}` : String(value);
}

function shift(scope: Scope, op: ShiftOp, left: Expr, right: Expr, leftNode: ts.Node, rightNode: ts.Node, expected?: Type): Expr {
  needInteger(scope, op, left, leftNode);
  needInteger(scope, op, right, rightNode);
  if (left.kind === "const" && left.type.kind === "literal") {
    if (right.kind !== "const") return shift(scope, op, coerce(scope, left, shiftedType(scope, left.type, right, expected, leftNode), leftNode), right, leftNode, rightNode);
    if (right.value < 0n || right.value > 4096n) throw refuse.shiftCount(scope.front.loc(rightNode), right.value, "a constant");
    return { kind: "const", type: left.type, value: fold(op, left.value, right.value), name: foldedName(left, op, right) };
  }
  const type = left.type as IntType;
  if (right.kind === "const") {
    if (right.value < 0n || right.value >= BigInt(type.bits)) throw refuse.shiftCount(scope.front.loc(rightNode), right.value, typeName(type));
    if (left.kind === "const") return { kind: "const", type: plain(type), value: wrap(fold(op, left.value, right.value), type), name: foldedName(left, op, right) };
    return { kind: "shift", type: plain(type), op, left, right: { ...right, type: countType(type) } };
  }
  return ordered(scope, [left, maskedCount(right, type.bits)], ([a, b]) => ({ kind: "shift", type: plain(type), op, left: a!, right: b! }));
}

/** The type of a constant that is shifted by a variable count: what is expected, but by a conversion; the count's own; what a conversion is to. */
function shiftedType(scope: Scope, { js }: LiteralType, count: Expr, expected: Type | undefined, node: ts.Node): IntType {
  const fitting = expected?.kind === "int" && (expected.bits === 64) === (js === "bigint") ? expected : null; // wrapU16(1n << x) expects no u16 of the shift
  if (fitting && !fitting.weak) return plain(fitting);
  if (count.type.kind === "int" && count.type.bits >= 32) return plain(count.type);
  if (fitting) return plain(fitting);
  throw refuse.untypedChoice(scope.front.loc(node));
}

function countType(type: IntType): IntType {
  return { kind: "int", bits: type.bits === 64 ? 64 : 32, signed: false };
}

/** A count taken modulo the width. */
function maskedCount(count: Expr, bits: number): Expr {
  const type = count.type as IntType;
  if (!type.signed && largest(count) < BigInt(bits)) return count;
  return { kind: "binary", type: plain(type), op: "&", left: count, right: { kind: "const", type: plain(type), value: BigInt(bits - 1) }, site: null };
}

function compare(scope: Scope, node: ts.BinaryExpression, op: CompareOp, left: Expr, right: Expr): Expr {
  const loc = scope.front.loc(node);
  const make = (l: Expr, r: Expr): Expr => ordered(scope, [l, r], ([a, b]) => ({ kind: "compare", type: BOOL, op, left: a!, right: b! }));
  const isEquality = op === "==" || op === "!=";
  const numeric = (type: Type): boolean => type.kind === "int" || type.kind === "literal";
  if (numeric(left.type) && numeric(right.type)) {
    if (left.kind === "const" && right.kind === "const") {
      return { kind: "const", type: BOOL, value: foldCompare(op, left.value, right.value) ? 1n : 0n };
    }
    const [l, r] = unify(scope, node.operatorToken.getText(), left, right, node, node.left, node.right);
    checkNames(scope, left.type, right.type, node);
    return make(l, r);
  }
  if (!isEquality) throw refuse.incomparable(loc, typeName(left.type), typeName(right.type));
  if (left.type.kind === "bool" && right.type.kind === "bool") return make(left, right);
  if (left.type.kind === "ref" && right.kind === "null") return make(left, { ...right, type: { ...left.type, nullable: true } });
  if (right.type.kind === "ref" && left.kind === "null") return make({ ...left, type: { ...right.type, nullable: true } }, right);
  if (left.type.kind === "ref" && right.type.kind === "ref" && sameStorage(left.type.target, right.type.target)) return make(left, right);
  throw refuse.incomparable(loc, typeName(left.type), typeName(right.type));
}

/** Addresses of different kinds, or members of different enumerations, do not compare. */
function checkNames(scope: Scope, left: Type, right: Type, node: ts.BinaryExpression): void {
  if (left.kind !== "int" || right.kind !== "int") return;
  const domains = left.domain && right.domain && left.domain !== right.domain;
  const enums = left.enum && right.enum && left.enum !== right.enum;
  if (domains || enums) throw refuse.incomparable(scope.front.loc(node), typeName(left), typeName(right));
}

function logical(scope: Scope, node: ts.BinaryExpression, op: "&&" | "||"): Expr {
  const left = lowerCondition(scope, node.left);
  const right = lowerCondition(scope, node.right);
  if (left.kind === "const" && right.kind === "const") {
    return { ...left, value: op === "&&" ? left.value & right.value : left.value | right.value };
  }
  return { kind: "logical", type: BOOL, op, left, right };
}

export function lowerPrefix(scope: Scope, node: ts.PrefixUnaryExpression, expected: Type | undefined): Expr {
  switch (node.operator) {
    case ts.SyntaxKind.ExclamationToken: {
      const value = lowerCondition(scope, node.operand);
      return value.kind === "const" ? { ...value, value: 1n - value.value } : { kind: "not", type: BOOL, value };
    }
    case ts.SyntaxKind.MinusToken: return unary(scope, node, "negate", expected);
    case ts.SyntaxKind.TildeToken: return unary(scope, node, "complement", expected);
    case ts.SyntaxKind.PlusToken: throw scope.front.refuse(node, "other");
    default: throw scope.front.refuse(node, "nestedAssignment");
  }
}

function unary(scope: Scope, node: ts.PrefixUnaryExpression, kind: "negate" | "complement", expected: Type | undefined): Expr {
  const value = lowerExpression(scope, node.operand, expected);
  needInteger(scope, kind === "negate" ? "-" : "~", value, node.operand);
  const sign = kind === "negate" ? "-" : "~";
  const named = (of: Const): string | undefined => of.name && `${sign}${nameOf(of)}`;
  const exact = (operand: bigint): bigint => (kind === "negate" ? -operand : ~operand);
  if (value.type.kind === "literal") {
    const constant = value as Const;
    const complement = kind === "complement" ? !value.type.complement : value.type.complement;
    return { kind: "const", type: { ...value.type, complement }, value: exact(constant.value), name: named(constant) };
  }
  const type = plain(value.type as IntType);
  if (value.kind === "const") return { ...value, type, value: wrap(exact(value.value), type), name: named(value) };
  return { kind, type, value };
}
