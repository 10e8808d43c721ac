/** Statements: one flat table from syntax to the function that lowers it. */
import { ts } from "./typescript.cjs";
import { type Construct, refuse } from "../diagnostics.ts";
import { type Func, type Stmt, mustUse, typeName } from "../ir.ts";
import { visitStatements } from "../walk.ts";
import { lowerAs } from "./coerce.ts";
import { type Front, type Scope, constantScope, hasModifier } from "./front.ts";
import type { Instance } from "./instance.ts";
import { lowerExpressionStatement } from "./lower-assign.ts";
import { TAKES_PLACE } from "./lower-builtin.ts";
import { builtinName } from "./lower-call.ts";
import { lowerCondition } from "./lower-expression.ts";
import { assignedBy, lowerDo, lowerFor, lowerForOf, lowerWhile } from "./lower-loop.ts";
import { lowerSwitch } from "./lower-switch.ts";
import { lowerVariables } from "./lower-variable.ts";
import { typeOfNode } from "./types.ts";

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
  [ts.SyntaxKind.ForOfStatement]: lowerForOf,
  [ts.SyntaxKind.SwitchStatement]: lowerSwitch,
  [ts.SyntaxKind.BreakStatement]: (scope, node: ts.BreakStatement) => jump(scope, node, "break"),
  [ts.SyntaxKind.ContinueStatement]: (scope, node: ts.ContinueStatement) => jump(scope, node, "continue"),
  [ts.SyntaxKind.ReturnStatement]: lowerReturn,
};

const REFUSED: Partial<Record<ts.SyntaxKind, Construct>> = {
  [ts.SyntaxKind.ForInStatement]: "forIn",
  [ts.SyntaxKind.TryStatement]: "exception",
  [ts.SyntaxKind.ThrowStatement]: "exception",
  [ts.SyntaxKind.LabeledStatement]: "label",
  [ts.SyntaxKind.FunctionDeclaration]: "nestedFunction",
  [ts.SyntaxKind.ClassDeclaration]: "classMember",
  [ts.SyntaxKind.WithStatement]: "withStatement",
  [ts.SyntaxKind.DebuggerStatement]: "withStatement",
};

/** The construct that a statement is refused as wherever it stands. */
export function refusedStatement(node: ts.Node): Construct | undefined {
  return REFUSED[node.kind];
}

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

type FunctionNode = ts.FunctionDeclaration | ts.MethodDeclaration;

/** Leaves a function's body for when everything is declared. */
export function queueBody(front: Front, func: Func, node: FunctionNode, instance: Instance): void {
  if (front.queued.has(func)) return; // a method may be called before its struct's turn comes
  front.queued.add(func);
  front.work.push(() => front.within(instance, () => lowerFunctionBody(front, func, node)));
}

function lowerFunctionBody(front: Front, func: Func, node: FunctionNode): void {
  if (hasModifier(node, ts.SyntaxKind.DeclareKeyword) || !node.body) return;
  const scope: Scope = { front, func, bindings: new Map(), ...usesIn(front, node.body) };
  const ownParams = func.params.slice(func.params.length - node.parameters.length); // a method has `this` before them
  node.parameters.forEach((parameter, i) => {
    const local = ownParams[i]!;
    local.addressed = scope.addressed.has(parameter);
    local.fixed = !scope.assigned.has(parameter);
    scope.bindings.set(parameter, { kind: "local", local });
  });
  func.body = lowerStatements(scope, node.body.statements);
  checkUsed(front, func.body);
}

/** Results that may not be ignored are not ignored by way of a variable either. */
function checkUsed(front: Front, body: Stmt[]): void {
  visitStatements(body, (stmt) => {
    if (stmt.kind !== "let" || stmt.init?.kind !== "call" || stmt.local.reads > 0) return;
    if (mustUse(stmt.local.type)) front.record(refuse.ignoredResult(stmt.loc, typeName(stmt.local.type)).diagnostic);
  });
}

/** The variables whose address is taken, or that are assigned, somewhere in a function: known before it is lowered. */
function usesIn(front: Front, body: ts.Block): Pick<Scope, "addressed" | "assigned"> {
  const addressed = new Set<ts.Node>();
  const assigned = new Set<ts.Node>();
  const scope = constantScope(front);
  const visit = (child: ts.Node): void => {
    ts.forEachChild(child, visit);
    const target = assignedBy(child);
    const declaration = target && front.declarationOf(target);
    if (declaration) assigned.add(declaration);
    const takes = ts.isCallExpression(child) && ts.isIdentifier(child.expression) && TAKES_PLACE.has(child.expression.text);
    if (takes && builtinName(scope, child)) takeAddress(child.arguments[0]);
  };
  const takeAddress = (argument: ts.Expression | undefined): void => {
    const declaration = argument && ts.isIdentifier(argument) ? front.declarationOf(argument) : undefined;
    if (!declaration || !(ts.isVariableDeclaration(declaration) || ts.isParameter(declaration))) return;
    // The address of a reference is that of the struct or array, which has memory of its own.
    const type = declaration.type && front.attempt(() => typeOfNode(front, declaration.type!));
    if (type?.kind === "int" || type?.kind === "bool" || !declaration.type) addressed.add(declaration);
  };
  visit(body);
  return { addressed, assigned };
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
