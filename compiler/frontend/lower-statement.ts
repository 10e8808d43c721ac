/** Statements: one flat table from syntax to the function that lowers it. */
import ts from "./typescript.cjs";
import { type Construct, refuse } from "../diagnostics.ts";
import type { Func, Stmt } from "../ir.ts";
import { lowerAs } from "./coerce.ts";
import { type Scope, hasModifier } from "./front.ts";
import { lowerExpressionStatement } from "./lower-assign.ts";
import { lowerCondition } from "./lower-expression.ts";
import { lowerDo, lowerFor, lowerWhile } from "./lower-loop.ts";
import { lowerSwitch } from "./lower-switch.ts";
import { lowerVariables } from "./lower-variable.ts";

type Lower = (scope: Scope, node: never) => Stmt[];

const TABLE: Partial<Record<ts.SyntaxKind, Lower>> = {
  [ts.SyntaxKind.Block]: (scope, node: ts.Block) => [{ kind: "block", loc: scope.front.loc(node), body: lowerStatements(scope, node.statements) }],
  [ts.SyntaxKind.EmptyStatement]: () => [],
  [ts.SyntaxKind.VariableStatement]: (scope, node: ts.VariableStatement) => lowerVariables(scope, node.declarationList),
  [ts.SyntaxKind.ExpressionStatement]: (scope, node: ts.ExpressionStatement) => lowerExpressionStatement(scope, node.expression),
  [ts.SyntaxKind.IfStatement]: lowerIf,
  [ts.SyntaxKind.WhileStatement]: lowerWhile,
  [ts.SyntaxKind.DoStatement]: lowerDo,
  [ts.SyntaxKind.ForStatement]: lowerFor,
  [ts.SyntaxKind.SwitchStatement]: lowerSwitch,
  [ts.SyntaxKind.BreakStatement]: (scope, node: ts.BreakStatement) => jump(scope, node, "break"),
  [ts.SyntaxKind.ContinueStatement]: (scope, node: ts.ContinueStatement) => jump(scope, node, "continue"),
  [ts.SyntaxKind.ReturnStatement]: lowerReturn,
};

const REFUSED: Partial<Record<ts.SyntaxKind, Construct>> = {
  [ts.SyntaxKind.ForOfStatement]: "forOf",
  [ts.SyntaxKind.ForInStatement]: "forOf",
  [ts.SyntaxKind.TryStatement]: "exception",
  [ts.SyntaxKind.ThrowStatement]: "exception",
  [ts.SyntaxKind.LabeledStatement]: "label",
  [ts.SyntaxKind.FunctionDeclaration]: "nestedFunction",
  [ts.SyntaxKind.ClassDeclaration]: "classMember",
  [ts.SyntaxKind.WithStatement]: "withStatement",
  [ts.SyntaxKind.DebuggerStatement]: "withStatement",
};

/** Statements in order; each that is refused is reported, and the next one goes on. */
export function lowerStatements(scope: Scope, nodes: readonly ts.Statement[]): Stmt[] {
  return nodes.flatMap((node) => scope.front.attempt(() => lowerStatement(scope, node)) ?? []);
}

export function lowerStatement(scope: Scope, node: ts.Statement): Stmt[] {
  const lower = TABLE[node.kind];
  if (!lower) throw scope.front.refuse(node, REFUSED[node.kind] ?? "withStatement");
  return lower(scope, node as never);
}

/** The body of a loop or branch, with or without braces. */
export function lowerBody(scope: Scope, node: ts.Statement): Stmt[] {
  return lowerStatements(scope, ts.isBlock(node) ? node.statements : [node]);
}

export function lowerFunctionBody(scope: Scope, func: Func, node: ts.FunctionDeclaration | ts.MethodDeclaration): void {
  if (hasModifier(node, ts.SyntaxKind.DeclareKeyword) || !node.body) return;
  func.body = lowerStatements(scope, node.body.statements);
}

function lowerIf(scope: Scope, node: ts.IfStatement): Stmt[] {
  const test = scope.front.attempt(() => lowerCondition(scope, node.expression));
  const yes = lowerBody(scope, node.thenStatement);
  const no = node.elseStatement ? lowerBody(scope, node.elseStatement) : null;
  const noLoc = node.elseStatement ? scope.front.loc(node.elseStatement) : null;
  return test ? [{ kind: "if", loc: scope.front.loc(node), test, yes, no, noLoc }] : [];
}

function jump(scope: Scope, node: ts.BreakStatement | ts.ContinueStatement, kind: "break" | "continue"): Stmt[] {
  if (node.label) throw scope.front.refuse(node.label, "label");
  return [{ kind, loc: scope.front.loc(node) }];
}

function lowerReturn(scope: Scope, node: ts.ReturnStatement): Stmt[] {
  const result = scope.func!.result;
  const loc = scope.front.loc(node);
  if (!node.expression) return [{ kind: "return", loc, value: null }];
  if (result.kind === "void" || result.kind === "never") {
    throw refuse.wrongType(scope.front.loc(node.expression), "a value", result.kind, "the call, and then return;");
  }
  return [{ kind: "return", loc, value: lowerAs(scope, node.expression, result) }];
}
