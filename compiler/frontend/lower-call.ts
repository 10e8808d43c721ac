/** Calls: of the program's functions, of the core library. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import type { Expr, Func, Type } from "../ir.ts";
import { coerce, lowerAs } from "./coerce.ts";
import { functionOf, globalOf, methodOf } from "./declare.ts";
import type { Scope } from "./front.ts";
import { argumentsOf, inferArguments } from "./instance.ts";
import { lowerBuiltin } from "./lower-builtin.ts";
import { lowerExpression, refusedExpression } from "./lower-expression.ts";
import { lowerBase } from "./lower-place.ts";
import { ordered } from "./order.ts";

export function lowerCall(scope: Scope, node: ts.CallExpression): Expr {
  const { front } = scope;
  if (node.questionDotToken) throw front.refuse(node, "optionalChain");
  if (node.arguments.some(ts.isSpreadElement)) throw front.refuse(node.arguments.find(ts.isSpreadElement)!, "spread");
  const builtin = builtinName(scope, node);
  if (builtin) return lowerBuiltin(scope, node, builtin);
  const name = calleeName(scope, node);
  const declaration = front.declarationOf(name);
  if (!declaration) refuseReceiver(scope, node.expression);
  if (!declaration) throw refuse.unknownName(front.loc(node.expression), node.expression.getText());
  if (isMember(declaration)) return callMethod(scope, node);
  if (!ts.isFunctionDeclaration(declaration)) throw refuse.notCallable(front.loc(node.expression));
  if (!scope.func) throw refuse.notConstant(front.loc(node));
  if (declaration.typeParameters) return callGeneric(scope, node, declaration);
  const global = globalOf(front, declaration, node);
  if (global.kind !== "func") throw refuse.notCallable(front.loc(node.expression));
  return call(scope, node, global.func, node.arguments.map((argument, i) => lowerArgument(scope, node, global.func, argument, i)));
}

/** In `/x/.test(text)` it is not the method that has to go. */
function refuseReceiver({ front }: Scope, callee: ts.Expression): void {
  if (!ts.isPropertyAccessExpression(callee)) return;
  const construct = refusedExpression(callee.expression);
  if (construct) throw front.refuse(callee.expression, construct);
}

/** A method of a class, or what an interface says that a type argument has. */
function isMember(declaration: ts.Declaration): boolean {
  return ts.isMethodDeclaration(declaration) || ts.isMethodSignature(declaration);
}

function callMethod(scope: Scope, node: ts.CallExpression): Expr {
  const { front } = scope;
  const access = node.expression;
  if (!ts.isPropertyAccessExpression(access) || access.questionDotToken) throw refuse.notCallable(front.loc(access));
  if (!scope.func) throw refuse.notConstant(front.loc(node));
  const self = lowerBase(scope, access.expression);
  const struct = self.type.kind === "ref" ? self.type.target : null;
  const func = struct?.kind === "struct" ? methodOf(front, struct, access.name.text) : undefined;
  if (!func) throw refuse.notCallable(front.loc(access));
  return call(scope, node, func, [self, ...node.arguments.map((argument, i) => lowerArgument(scope, node, func, argument, i + 1))]);
}

/** The instance for the type arguments that are written out, or that the arguments' types tell. */
function callGeneric(scope: Scope, node: ts.CallExpression, declaration: ts.FunctionDeclaration): Expr {
  const { front } = scope;
  if (node.typeArguments) {
    const func = functionOf(front, declaration, argumentsOf(front, declaration, node.typeArguments, node), node);
    return call(scope, node, func, node.arguments.map((argument, i) => lowerArgument(scope, node, func, argument, i)));
  }
  // Constants and object literals take the type that the others tell.
  const known = node.arguments.map((argument) => (ts.isObjectLiteralExpression(argument) ? null : lowerExpression(scope, argument)));
  const types = known.map((value): Type | null => (value && value.kind !== "null" && value.type.kind !== "literal" ? value.type : null));
  const func = functionOf(front, declaration, inferArguments(front, declaration, types, node), node);
  return call(scope, node, func, node.arguments.map((argument, i) => {
    const value = known[i];
    return value && value.type.kind !== "literal" && func.params[i] ? coerce(scope, value, func.params[i].type, argument) : lowerArgument(scope, node, func, argument, i);
  }));
}

function lowerArgument(scope: Scope, node: ts.CallExpression, func: Func, argument: ts.Expression, i: number): Expr {
  const param = func.params[i];
  if (!param) throw wrongCount(scope, node, func);
  return lowerAs(scope, argument, param.type);
}

function call(scope: Scope, node: ts.CallExpression, func: Func, args: Expr[]): Expr {
  if (args.length !== func.params.length) throw wrongCount(scope, node, func);
  return ordered(scope, args, (values) => ({ kind: "call", type: func.result, func, args: values }));
}

function wrongCount(scope: Scope, node: ts.CallExpression, func: Func): Error {
  return refuse.builtinUse(scope.front.loc(node), `${func.name} takes ${func.params.length} argument${func.params.length === 1 ? "" : "s"}`);
}

/** The core library's function that a call names, or null. */
export function builtinName(scope: Scope, node: ts.CallExpression): string | null {
  if (!ts.isIdentifier(node.expression)) return null;
  const declaration = scope.front.declarationOf(node.expression);
  if (!declaration || !scope.front.program.isCore(declaration)) return null;
  return ts.getNameOfDeclaration(declaration)?.getText() ?? null;
}

/** The name in `f()`, `Module.f()` and `s.method()`. */
function calleeName(scope: Scope, node: ts.CallExpression): ts.Node {
  const callee = node.expression;
  if (ts.isIdentifier(callee)) return callee;
  if (ts.isPropertyAccessExpression(callee)) return callee.name;
  throw refuse.notCallable(scope.front.loc(callee));
}
