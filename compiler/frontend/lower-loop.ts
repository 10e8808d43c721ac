/** Loops. A for loop that counts below a constant proves its index. */
import ts from "./typescript.cjs";
import type { Expr, Local, Stmt } from "../ir.ts";
import type { Scope } from "./front.ts";
import { lowerExpressionStatement } from "./lower-assign.ts";
import { lowerCondition } from "./lower-expression.ts";
import { isAssignment } from "./lower-operator.ts";
import { lowerBody } from "./lower-statement.ts";
import { lowerVariables } from "./lower-variable.ts";

export function lowerWhile(scope: Scope, node: ts.WhileStatement): Stmt[] {
  const test = scope.front.attempt(() => lowerCondition(scope, node.expression));
  const body = lowerBody(scope, node.statement);
  return test ? [{ kind: "while", loc: scope.front.loc(node), test, body }] : [];
}

export function lowerDo(scope: Scope, node: ts.DoStatement): Stmt[] {
  const body = lowerBody(scope, node.statement);
  return [{ kind: "doWhile", loc: scope.front.loc(node), test: lowerCondition(scope, node.expression), body }];
}

export function lowerFor(scope: Scope, node: ts.ForStatement): Stmt[] {
  const init = node.initializer ? lowerInitializer(scope, node.initializer) : [];
  const test = node.condition ? lowerCondition(scope, node.condition) : null;
  const proved = test && provedLimit(scope, test, node.statement);
  if (proved) proved.local.max = proved.max;
  const body = lowerBody(scope, node.statement);
  if (proved) proved.local.max = undefined;
  const step = node.incrementor ? lowerStep(scope, node.incrementor) : [];
  return [{ kind: "for", loc: scope.front.loc(node), init, test, step, body }];
}

function lowerInitializer(scope: Scope, node: ts.ForInitializer): Stmt[] {
  return ts.isVariableDeclarationList(node) ? lowerVariables(scope, node) : lowerStep(scope, node);
}

/** The step of a loop may be several assignments with commas. */
function lowerStep(scope: Scope, node: ts.Expression): Stmt[] {
  if (ts.isBinaryExpression(node) && node.operatorToken.kind === ts.SyntaxKind.CommaToken) {
    return [...lowerStep(scope, node.left), ...lowerStep(scope, node.right)];
  }
  return lowerExpressionStatement(scope, node);
}

/** `i < LIMIT`, where the body leaves i alone: in the body i is below the limit, however the loop steps. */
function provedLimit(scope: Scope, test: Expr, body: ts.Statement): { local: Local; max: bigint } | null {
  if (test.kind === "logical" && test.op === "&&") {
    return provedLimit(scope, test.left, body) ?? provedLimit(scope, test.right, body);
  }
  if (test.kind !== "compare" || (test.op !== "<" && test.op !== "<=")) return null;
  const { left, right } = test;
  if (left.kind !== "load" || left.place.kind !== "local" || right.kind !== "const") return null;
  const { local } = left.place;
  const unsigned = local.type.kind === "int" && !local.type.signed;
  if (!unsigned || local.addressed || local.max !== undefined || isAssignedIn(scope, local, body)) return null;
  const max = test.op === "<" ? right.value - 1n : right.value;
  return max >= 0n ? { local, max } : null;
}

function isAssignedIn(scope: Scope, local: Local, node: ts.Node): boolean {
  const assigns = (target: ts.Expression): boolean => {
    const declaration = ts.isIdentifier(target) ? scope.front.declarationOf(target) : undefined;
    const binding = declaration && scope.bindings.get(declaration);
    return binding?.kind === "local" && binding.local === local;
  };
  const visit = (child: ts.Node): boolean => {
    if (ts.isBinaryExpression(child) && isAssignment(child.operatorToken.kind) && assigns(unwrap(child.left))) return true;
    if ((ts.isPrefixUnaryExpression(child) || ts.isPostfixUnaryExpression(child)) && assigns(unwrap(child.operand))
      && (child.operator === ts.SyntaxKind.PlusPlusToken || child.operator === ts.SyntaxKind.MinusMinusToken)) return true;
    return ts.forEachChild(child, visit) ?? false;
  };
  return visit(node);
}

function unwrap(node: ts.Expression): ts.Expression {
  return ts.isParenthesizedExpression(node) ? unwrap(node.expression) : node;
}
