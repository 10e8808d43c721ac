/** Expression statements: assignments, ++ and --, calls, and the checks that are statements. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { BOOL, type Expr, type Local, type Place, type Stmt, type Temp, type Type, isAggregate, mustUse, typeName } from "../ir.ts";
import { coerce, lowerAs } from "./coerce.ts";
import { BIGINT, NUMBER } from "./constants.ts";
import type { Scope } from "./front.ts";
import { checkArguments } from "./lower-builtin.ts";
import { builtinName } from "./lower-call.ts";
import { lowerCondition, lowerExpression } from "./lower-expression.ts";
import { assignBits, bitFieldOf, readBits } from "./lower-bits.ts";
import { COMPOUND, arithmetic, isAssignment } from "./lower-operator.ts";
import { placeOf, valueOf } from "./lower-place.ts";
import { isImpure, isStable, stabilise } from "./order.ts";
import { placeChildren } from "../walk.ts";
import { site } from "./sites.ts";

export function lowerExpressionStatement(scope: Scope, node: ts.Expression): Stmt[] {
  if (ts.isParenthesizedExpression(node)) return lowerExpressionStatement(scope, node.expression);
  if (ts.isBinaryExpression(node) && isAssignment(node.operatorToken.kind)) return lowerAssignment(scope, node);
  if (ts.isPostfixUnaryExpression(node)) return step(scope, node, node.operator, node.operand);
  if (ts.isPrefixUnaryExpression(node) && isStep(node.operator)) return step(scope, node, node.operator, node.operand);
  if (ts.isCallExpression(node)) return lowerCallStatement(scope, node);
  lowerExpression(scope, node);
  throw refuse.discarded(scope.front.loc(node));
}

function lowerCallStatement(scope: Scope, node: ts.CallExpression): Stmt[] {
  const loc = scope.front.loc(node);
  const builtin = builtinName(scope, node);
  if (builtin) checkArguments(scope, node, builtin);
  if (builtin === "unreachable") return [{ kind: "trap", loc, site: site(scope, node, "unreachable") }];
  if (builtin === "assert") {
    const argument = node.arguments[0]!;
    const condition = lowerCondition(scope, argument);
    const trap: Stmt = { kind: "trap", loc, site: site(scope, node, `assertion failed: ${argument.getText().replace(/\s+/g, " ")}`) };
    return [{ kind: "if", loc, test: negated(condition), yes: [trap], no: null, noLoc: null }];
  }
  const dropped = builtin === "ignore" ? node.arguments[0]! : node;
  const value = lowerExpression(scope, dropped);
  if (!isImpure(value)) throw refuse.discarded(loc);
  if (mustUse(value.type) && builtin !== "ignore") throw refuse.ignoredResult(loc, typeName(value.type));
  return [{ kind: "expression", loc, value }];
}

function negated(condition: Expr): Expr {
  return condition.kind === "const" ? { ...condition, value: 1n - condition.value } : { kind: "not", type: BOOL, value: condition };
}

function lowerAssignment(scope: Scope, node: ts.BinaryExpression): Stmt[] {
  const token = node.operatorToken.kind;
  const bits = bitFieldOf(scope, node.left);
  if (bits && token === ts.SyntaxKind.EqualsToken) return assignBits(scope, node, bits, lowerAs(scope, node.right, bits.field.type));
  const place = bits?.word ?? target(scope, node.left);
  if (token === ts.SyntaxKind.EqualsToken) {
    const value = lowerAs(scope, node.right, place.type);
    if (place.kind === "local" && stepsItself(place.local, value)) place.local.reads--;
    return [assign(scope, node, place, value)];
  }
  const operator = COMPOUND[token];
  if (!operator) throw scope.front.refuse(node.operatorToken, token === ts.SyntaxKind.AsteriskAsteriskEqualsToken ? "power" : token === ts.SyntaxKind.GreaterThanGreaterThanGreaterThanEqualsToken ? "unsignedShift" : "nestedAssignment");
  const right = lowerExpression(scope, node.right, bits?.field.type ?? place.type);
  if (bits) return assignBits(scope, node, bits, arithmetic(scope, operator, readBits(bits), right, node, node.left, node.right));
  return [update(scope, node, place, operator, right, node.left, node.right)];
}

/** `x = x + 1`, which C says as `x += 1`: to be stepped is not to be used. */
function stepsItself(local: Local, value: Expr): boolean {
  return value.kind === "binary" && value.left.kind === "load" && value.left.place.kind === "local" && value.left.place.local === local;
}

/** place = place op value, with the place evaluated once. The place does not count as read by that. */
function update(scope: Scope, node: ts.Expression, place: Place, operator: ts.SyntaxKind, right: Expr, leftNode: ts.Node, rightNode: ts.Node): Stmt {
  const temps: Temp[] = [];
  const once = stabilise(scope, place, temps);
  const value = arithmetic(scope, operator, valueOf(once), right, node, leftNode, rightNode);
  uncount(once);
  const named = namedResult(value, place.type);
  return { kind: "assign", loc: scope.front.loc(node), temps, place: once, value: coerce(scope, named, place.type, node) };
}

/** `address += 8n` leaves an address what it was. */
function namedResult(value: Expr, type: Type): Expr {
  return type.kind === "int" && type.domain && value.type.kind === "int" ? ({ ...value, type: { ...value.type, domain: type.domain } } as Expr) : value;
}

function assign(scope: Scope, node: ts.Expression, place: Place, value: Expr): Stmt {
  const temps: Temp[] = [];
  const shows = isImpure(value) && !placeChildren(place).every(isStable);
  const settled = shows ? stabilise(scope, place, temps) : place;
  if (settled.kind !== "local") uncount(settled);
  return { kind: "assign", loc: scope.front.loc(node), temps, place: settled, value };
}

/** Storage that is only written is not used to a C compiler. */
function uncount(written: Place): void {
  const root = rootOf(written);
  if (root.kind === "local") root.local.reads--;
}

function isStep(operator: ts.SyntaxKind): boolean {
  return operator === ts.SyntaxKind.PlusPlusToken || operator === ts.SyntaxKind.MinusMinusToken;
}

function step(scope: Scope, node: ts.Expression, operator: ts.SyntaxKind, operand: ts.Expression): Stmt[] {
  const bits = bitFieldOf(scope, operand);
  const place = bits?.word ?? target(scope, operand);
  const type = bits?.field.type ?? place.type;
  const wide = type.kind === "int" && type.bits === 64;
  const one: Expr = { kind: "const", type: wide ? BIGINT : NUMBER, value: 1n };
  const token = operator === ts.SyntaxKind.PlusPlusToken ? ts.SyntaxKind.PlusToken : ts.SyntaxKind.MinusToken;
  if (bits) return assignBits(scope, node, bits, arithmetic(scope, token, readBits(bits), one, node, operand, operand));
  return [update(scope, node, place, token, one, operand, operand)];
}

/** A place that may be written. */
function target(scope: Scope, node: ts.Expression): Place {
  const { front } = scope;
  if (ts.isArrayLiteralExpression(node) || ts.isObjectLiteralExpression(node)) throw front.refuse(node, "destructuring");
  const place = placeOf(scope, node);
  if (isAggregate(place.type)) throw refuse.structCopy(front.loc(node));
  const root = rootOf(place);
  if (root.kind === "static" && root.static.constant) throw refuse.constantTable(front.loc(node), root.static.name);
  return place;
}

function rootOf(place: Place): Place {
  if ((place.kind === "field" || place.kind === "element") && place.base.kind === "ref") return rootOf(place.base.place);
  return place;
}

