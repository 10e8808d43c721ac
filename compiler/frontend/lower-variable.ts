/** Local variables: constants that fold away, scalars, references, and storage on the stack. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { type Expr, type Local, type Stmt, type Type, isAggregate, typeName } from "../ir.ts";
import { coerce, nonNull } from "./coerce.ts";
import { zeroedAlign } from "./declare.ts";
import type { Scope } from "./front.ts";
import { lowerExpression } from "./lower-expression.ts";
import { fixedSlice } from "./lower-slice.ts";
import { largest } from "./ranges.ts";
import { asValue, complete, typeOfNode } from "./types.ts";

export function lowerVariables(scope: Scope, list: ts.VariableDeclarationList): Stmt[] {
  const flavour = list.flags & ts.NodeFlags.BlockScoped;
  if (flavour !== ts.NodeFlags.Let && flavour !== ts.NodeFlags.Const) throw scope.front.refuse(list, "varDeclaration");
  return list.declarations.flatMap((node) => lowerVariable(scope, node, flavour === ts.NodeFlags.Const));
}

function lowerVariable(scope: Scope, node: ts.VariableDeclaration, isConst: boolean): Stmt[] {
  const { front } = scope;
  if (!ts.isIdentifier(node.name)) throw front.refuse(node.name, "destructuring");
  const name = node.name.text;
  const declared = node.type ? complete(front, typeOfNode(front, node.type)) : null;
  if (declared?.kind === "void" || declared?.kind === "never") throw refuse.notStorage(front.loc(node.type!), typeName(declared));
  const align = node.initializer ? zeroedAlign(front, node.initializer) : null;
  if (align !== null) return storage(scope, node, name, declared, isConst, align);
  if (!node.initializer) {
    if (!declared) throw refuse.untypedLet(front.loc(node), name);
    return [declareLocal(scope, node, name, asValue(declared), null)];
  }
  if (ts.isObjectLiteralExpression(node.initializer) && !declared) throw refuse.needsAnnotation(front.loc(node), name, `const ${name}: R = { … }`);
  const value = declared
    ? coerce(scope, lowerExpression(scope, node.initializer, asValue(declared)), asValue(declared), node.initializer)
    : untyped(scope, node, node.initializer, name, isConst);
  if (isConst && value.kind === "const" && !isAddressed(scope, node)) {
    scope.bindings.set(node, { kind: "constant", value: { ...value, name } });
    return [];
  }
  return [declareLocal(scope, node, name, declared ? asValue(declared) : value.type, value, isConst)];
}

/** The value of a variable without annotation: it has to say its type by itself. */
function untyped(scope: Scope, node: ts.VariableDeclaration, init: ts.Expression, name: string, isConst: boolean): Expr {
  const { front } = scope;
  const value = lowerExpression(scope, init);
  if (value.kind === "null" || (value.type.kind === "literal" && !isConst)) {
    throw value.kind === "null" ? refuse.needsAnnotation(front.loc(node), name, `let ${name}: T | null = null`) : refuse.untypedLet(front.loc(node), name);
  }
  if (value.type.kind === "void" || value.type.kind === "never") throw refuse.notStorage(front.loc(init), typeName(value.type));
  if (value.type.kind !== "ref" || !value.type.nullable) return value;
  return isConst ? tryNonNull(scope, value, init) : value;
}

function tryNonNull(scope: Scope, value: Expr, node: ts.Expression): Expr {
  try {
    return nonNull(scope, value, node);
  } catch {
    return value;
  }
}

function storage(scope: Scope, node: ts.VariableDeclaration, name: string, type: Type | null, isConst: boolean, align: number): Stmt[] {
  const { front } = scope;
  if (!type) throw refuse.needsAnnotation(front.loc(node), name, `const ${name}: S = zeroed()`);
  if (!isAggregate(type)) throw refuse.builtinUse(front.loc(node.initializer!), `zeroed() makes structs and arrays, this is ${typeName(type)}`, "0, 0n, false or null");
  if (!isConst) throw refuse.builtinUse(front.loc(node), "storage is const; what it holds may change", `const ${name}: ${typeName(type)} = zeroed()`);
  const stmt = declareLocal(scope, node, name, type, null);
  if (stmt.kind === "let") stmt.local.align = align;
  return [stmt];
}

export function declareLocal(scope: Scope, node: ts.VariableDeclaration, name: string, type: Type, init: Expr | null, isConst = false): Stmt {
  const isScalar = type.kind === "int" || type.kind === "bool";
  const local: Local = { name, cName: name, type, param: false, align: 0, addressed: isScalar && isAddressed(scope, node), reads: 0, fixed: isConst || !scope.assigned.has(node) };
  if (local.fixed && init?.kind === "sliceLength") local.lengthOf = fixedSlice(init.value) ?? undefined;
  if (isConst && init && type.kind === "int" && !type.signed && !local.addressed) local.max = largest(init);
  scope.bindings.set(node, { kind: "local", local });
  return { kind: "let", loc: scope.front.loc(node), local, init };
}

function isAddressed(scope: Scope, node: ts.Node): boolean {
  return scope.addressed.has(node);
}
