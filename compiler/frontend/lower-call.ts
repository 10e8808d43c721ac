/** Calls: of the program's functions, of the core library. */
import ts from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import type { Expr } from "../ir.ts";
import { lowerAs } from "./coerce.ts";
import { globalOf } from "./declare.ts";
import type { Scope } from "./front.ts";
import { lowerBuiltin } from "./lower-builtin.ts";
import { ordered } from "./order.ts";

export function lowerCall(scope: Scope, node: ts.CallExpression): Expr {
  const { front } = scope;
  if (node.questionDotToken) throw front.refuse(node, "optionalChain");
  if (node.arguments.some(ts.isSpreadElement)) throw front.refuse(node.arguments.find(ts.isSpreadElement)!, "spread");
  const builtin = builtinName(scope, node);
  if (builtin) return lowerBuiltin(scope, node, builtin);
  const declaration = front.declarationOf(calleeName(scope, node));
  if (!declaration) throw refuse.unknownName(front.loc(node.expression), node.expression.getText());
  const isMethod = ts.isMethodDeclaration(declaration);
  if (!isMethod && !ts.isFunctionDeclaration(declaration)) throw refuse.notCallable(front.loc(node.expression));
  if (!scope.func) throw refuse.notConstant(front.loc(node));
  const global = globalOf(front, declaration, node);
  if (global.kind !== "func") throw refuse.notCallable(front.loc(node.expression));
  const { func } = global;
  const given = isMethod ? [receiver(scope, node.expression), ...node.arguments] : [...node.arguments];
  if (given.length !== func.params.length) throw refuse.builtinUse(front.loc(node), `${func.name} takes ${func.params.length} arguments`);
  const args = given.map((argument, i) => lowerAs(scope, argument, func.params[i]!.type));
  return ordered(scope, args, (values) => ({ kind: "call", type: func.result, func, args: values }));
}

/** The core library's function that a call names, or null. */
export function builtinName(scope: Scope, node: ts.CallExpression): string | null {
  if (!ts.isIdentifier(node.expression)) return null;
  const declaration = scope.front.declarationOf(node.expression);
  if (!declaration || !scope.front.program.isCore(declaration)) return null;
  return ts.getNameOfDeclaration(declaration)?.getText() ?? null;
}

/** What a method is called on. */
function receiver(scope: Scope, callee: ts.Expression): ts.Expression {
  if (ts.isPropertyAccessExpression(callee) && !callee.questionDotToken) return callee.expression;
  throw refuse.notCallable(scope.front.loc(callee));
}

/** The name in `f()`, `Module.f()` and `s.method()`. */
function calleeName(scope: Scope, node: ts.CallExpression): ts.Node {
  const callee = node.expression;
  if (ts.isIdentifier(callee)) return callee;
  if (ts.isPropertyAccessExpression(callee)) return callee.name;
  throw refuse.notCallable(scope.front.loc(callee));
}
