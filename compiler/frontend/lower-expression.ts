/** Expressions: one flat table from syntax to the function that lowers it. */
import { ts } from "./typescript.cjs";
import { type Construct, refuse } from "../diagnostics.ts";
import { BOOL, type Expr, STRING, type Type, VOID, isAggregate, sameStorage, typeName } from "../ir.ts";
import { coerce, mismatch, nonNull } from "./coerce.ts";
import { BIGINT, NUMBER } from "./constants.ts";
import type { Scope } from "./front.ts";
import { lowerAsExpression } from "./lower-convert.ts";
import { lowerCall } from "./lower-call.ts";
import { lowerBinary, lowerPrefix } from "./lower-operator.ts";
import { lowerObject } from "./lower-record.ts";
import { lowerElement, lowerIdentifier, lowerProperty, valueOf } from "./lower-place.ts";

type Lower = (scope: Scope, node: never, expected: Type | undefined) => Expr;

const TABLE: Partial<Record<ts.SyntaxKind, Lower>> = {
  [ts.SyntaxKind.NumericLiteral]: lowerNumber,
  [ts.SyntaxKind.BigIntLiteral]: lowerBigInt,
  [ts.SyntaxKind.StringLiteral]: (_scope, node: ts.StringLiteral) => ({ kind: "string", type: STRING, value: node.text }),
  [ts.SyntaxKind.TrueKeyword]: () => ({ kind: "const", type: BOOL, value: 1n }),
  [ts.SyntaxKind.FalseKeyword]: () => ({ kind: "const", type: BOOL, value: 0n }),
  [ts.SyntaxKind.NullKeyword]: () => ({ kind: "null", type: VOID }),
  [ts.SyntaxKind.ParenthesizedExpression]: (scope, node: ts.ParenthesizedExpression, expected) => lowerExpression(scope, node.expression, expected),
  [ts.SyntaxKind.Identifier]: lowerIdentifier,
  [ts.SyntaxKind.ThisKeyword]: lowerThis,
  [ts.SyntaxKind.QualifiedName]: lowerProperty,
  [ts.SyntaxKind.PropertyAccessExpression]: lowerProperty,
  [ts.SyntaxKind.ElementAccessExpression]: lowerElement,
  [ts.SyntaxKind.CallExpression]: lowerCall,
  [ts.SyntaxKind.BinaryExpression]: lowerBinary,
  [ts.SyntaxKind.PrefixUnaryExpression]: lowerPrefix,
  [ts.SyntaxKind.ConditionalExpression]: lowerConditional,
  [ts.SyntaxKind.AsExpression]: lowerAsExpression,
  [ts.SyntaxKind.ObjectLiteralExpression]: lowerObject,
};

const REFUSED: Partial<Record<ts.SyntaxKind, Construct>> = {
  [ts.SyntaxKind.PostfixUnaryExpression]: "nestedAssignment",
  [ts.SyntaxKind.NonNullExpression]: "nonNull",
  [ts.SyntaxKind.TemplateExpression]: "template",
  [ts.SyntaxKind.NoSubstitutionTemplateLiteral]: "template",
  [ts.SyntaxKind.TaggedTemplateExpression]: "template",
  [ts.SyntaxKind.ArrayLiteralExpression]: "arrayLiteral",
  [ts.SyntaxKind.SpreadElement]: "spread",
  [ts.SyntaxKind.ArrowFunction]: "closure",
  [ts.SyntaxKind.FunctionExpression]: "closure",
  [ts.SyntaxKind.ClassExpression]: "classMember",
  [ts.SyntaxKind.NewExpression]: "newExpression",
  [ts.SyntaxKind.TypeOfExpression]: "typeOf",
  [ts.SyntaxKind.AwaitExpression]: "asynchronous",
  [ts.SyntaxKind.YieldExpression]: "asynchronous",
  [ts.SyntaxKind.SuperKeyword]: "thisValue",
  [ts.SyntaxKind.TypeAssertionExpression]: "cast",
  [ts.SyntaxKind.SatisfiesExpression]: "cast",
  [ts.SyntaxKind.RegularExpressionLiteral]: "regex",
};

/** The construct that an expression is refused as wherever it stands. */
export function refusedExpression(node: ts.Node): Construct | undefined {
  return node.kind === ts.SyntaxKind.PostfixUnaryExpression ? undefined : REFUSED[node.kind];
}

/** `expected` only helps where nothing else says the type: constants that are chosen by a condition. */
export function lowerExpression(scope: Scope, node: ts.Expression, expected?: Type): Expr {
  const lower = TABLE[node.kind];
  if (!lower) throw scope.front.refuse(node, REFUSED[node.kind] ?? "other");
  return lower(scope, node as never, expected);
}

/** A condition: boolean, with no truthiness. */
export function lowerCondition(scope: Scope, node: ts.Expression): Expr {
  const value = lowerExpression(scope, node);
  if (value.type.kind === "bool") return value;
  const text = node.getText();
  const zero = value.type.kind === "ref" ? "null" : value.type.kind === "int" && value.type.bits === 64 ? "0n" : "0";
  throw refuse.needsBoolean(scope.front.loc(node), typeName(value.type), `${/^[\w.[\]()]+$/.test(text) ? text : `(${text})`} !== ${zero}`);
}

function lowerNumber(scope: Scope, node: ts.NumericLiteral): Expr {
  const text = node.getText().replaceAll("_", "");
  if (!/^(0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|\d+)$/.test(text)) throw scope.front.refuse(node, "floatLiteral");
  return { kind: "const", type: NUMBER, value: BigInt(text), hex: isHex(text) };
}

function lowerBigInt(_scope: Scope, node: ts.BigIntLiteral): Expr {
  const text = node.getText().replaceAll("_", "").slice(0, -1);
  return { kind: "const", type: BIGINT, value: BigInt(text), hex: isHex(text) };
}

/** The first parameter of a method. */
function lowerThis(scope: Scope, node: ts.Node): Expr {
  const self = scope.func?.params[0];
  if (self?.name !== "this") throw scope.front.refuse(node, "thisValue");
  return valueOf({ kind: "local", type: self.type, local: self });
}

function isHex(text: string): boolean {
  return /^0[xX]/.test(text);
}

function lowerConditional(scope: Scope, node: ts.ConditionalExpression, expected: Type | undefined): Expr {
  const test = lowerCondition(scope, node.condition);
  const yes = lowerExpression(scope, node.whenTrue, expected);
  const no = lowerExpression(scope, node.whenFalse, expected);
  if (test.kind === "const" && yes.kind === "const" && no.kind === "const") return test.value ? yes : no;
  const type = commonType(scope, node, yes, no, expected);
  return {
    kind: "conditional", type, test,
    yes: coerce(scope, yes, type, node.whenTrue),
    no: coerce(scope, no, type, node.whenFalse),
  };
}

function commonType(scope: Scope, node: ts.ConditionalExpression, yes: Expr, no: Expr, expected: Type | undefined): Type {
  if (yes.type.kind === "literal" && no.type.kind === "literal") {
    if (expected?.kind !== "int") throw refuse.untypedChoice(scope.front.loc(node));
    return { ...expected, weak: undefined };
  }
  if (yes.kind === "null" && no.kind === "null" && expected?.kind === "ref") return expected;
  if (yes.kind === "null" && no.kind === "null") throw refuse.untypedChoice(scope.front.loc(node));
  if (yes.type.kind === "literal" || yes.kind === "null") return nullableIf(yes.kind === "null", no.type);
  if (no.type.kind === "literal" || no.kind === "null") return nullableIf(no.kind === "null", yes.type);
  if (yes.type.kind === "ref" && no.type.kind === "ref") {
    if (!sameStorage(yes.type.target, no.type.target)) throw mismatch(scope, no.type, yes.type, node.whenFalse);
    if (expected?.kind === "ref") return expected;
    const bothFound = nonNullOr(scope, yes, node.whenTrue) && nonNullOr(scope, no, node.whenFalse);
    return { ...yes.type, nullable: !bothFound };
  }
  if (expected?.kind === "record") return expected;
  if (yes.type.kind === "int" && no.type.kind === "int" && yes.type.domain !== no.type.domain) return { ...yes.type, domain: undefined } as Type;
  if (isAggregate(yes.type) || yes.type.kind === "void") throw refuse.untypedChoice(scope.front.loc(node));
  return yes.type;
}

function nullableIf(isNull: boolean, type: Type): Type {
  return isNull && type.kind === "ref" ? { ...type, nullable: true } : type;
}

function nonNullOr(scope: Scope, value: Expr, node: ts.Node): boolean {
  try {
    const found = nonNull(scope, value, node).type;
    return found.kind === "ref" && !found.nullable;
  } catch {
    return false;
  }
}
