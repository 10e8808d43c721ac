/** Names, fields and elements: as places to write, as values to read. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { BOOL, type Expr, INTS, type Place, type Type, isAggregate, typeName } from "../ir.ts";
import { childrenOf } from "../walk.ts";
import { coerce, nonNull } from "./coerce.ts";
import { enumOf } from "./constants.ts";
import { globalOf } from "./declare.ts";
import type { Scope } from "./front.ts";
import { lowerExpression } from "./lower-expression.ts";
import { bitsIn, readBits } from "./lower-bits.ts";
import { lowerMember } from "./lower-record.ts";
import { fixedSlice, isRepeatable, lengthOf } from "./lower-slice.ts";
import { isImpure, isStable } from "./order.ts";
import { largest } from "./ranges.ts";
import { site } from "./sites.ts";

export function lowerIdentifier(scope: Scope, node: ts.Identifier): Expr {
  return lowerName(scope, node, node);
}

/** A name, which may be qualified (`Module.name`): `name` is the last part, `node` the whole. */
function lowerName(scope: Scope, name: ts.Identifier, node: ts.Node): Expr {
  const found = resolveName(scope, name, node);
  return "place" in found ? valueOf(found.place) : found.value;
}

function resolveName(scope: Scope, name: ts.Identifier, node: ts.Node): { place: Place } | { value: Expr } {
  const { front } = scope;
  if (name.text === "undefined") throw front.refuse(node, "undefinedValue");
  const declaration = front.declarationOf(name);
  if (!declaration) throw refuse.unknownName(front.loc(node), name.text);
  const binding = scope.bindings.get(declaration);
  if (binding?.kind === "constant") return { value: binding.value };
  if (binding) return { place: { kind: "local", type: binding.local.type, local: binding.local } };
  if (ts.isEnumMember(declaration)) return { value: enumMember(scope, declaration, node) };
  if (isLocal(declaration)) throw scope.func ? refuse.consequence(front.loc(node)) : refuse.notConstant(front.loc(node));
  const global = globalOf(front, declaration, node);
  switch (global.kind) {
    case "constant": return { value: global.value };
    case "static":
      if (!scope.func) throw refuse.notConstant(front.loc(node));
      return { place: { kind: "static", type: global.static.type, static: global.static } };
    case "func": throw refuse.functionValue(front.loc(node), name.text);
  }
}

/** Whether a declaration stands inside a function. */
function isLocal(declaration: ts.Declaration): boolean {
  return ts.isParameter(declaration) || (ts.isVariableDeclaration(declaration) && !ts.isSourceFile(declaration.parent.parent.parent));
}

function enumMember(scope: Scope, member: ts.EnumMember, node: ts.Node): Expr {
  const declaration = enumOf(scope.front, member.parent);
  const name = member.name.getText();
  const value = declaration.members.get(name);
  if (value === undefined) { // used inside its own enum before it has a value
    throw refuse.notConstant(scope.front.loc(node));
  }
  return { kind: "const", type: { ...INTS.u32, enum: declaration }, value, name: `${declaration.name}.${name}` };
}

/** What stands in a place: a scalar, or a reference to the struct or array there. */
export function valueOf(place: Place): Expr {
  if (place.kind === "local") place.local.reads++;
  if (isAggregate(place.type)) {
    return { kind: "ref", type: { kind: "ref", target: place.type, nullable: false }, place };
  }
  return { kind: "load", type: place.type, place };
}

export function lowerProperty(scope: Scope, node: ts.PropertyAccessExpression | ts.QualifiedName): Expr {
  if (ts.isQualifiedName(node)) return lowerName(scope, node.right, node);
  if (node.questionDotToken) throw scope.front.refuse(node, "optionalChain");
  if (isQualifiedName(scope, node)) return lowerName(scope, node.name as ts.Identifier, node);
  const base = lowerBase(scope, node.expression);
  if (base.type.kind === "record") return lowerMember(scope, node, base);
  if (base.type.kind === "slice" && node.name.text === "length") return { kind: "sliceLength", type: INTS.u32, value: base };
  if (base.type.kind === "ref" && base.type.target.kind === "array" && node.name.text === "length") {
    if (isImpure(base)) throw refuse.builtinUse(scope.front.loc(node), "the array's expression has effects", "a const for the array first");
    forget(base);
    return { kind: "const", type: INTS.u32, value: BigInt(base.type.target.length) };
  }
  const bits = bitsIn(base, node.name.text);
  return bits ? readBits(bits) : valueOf(fieldPlace(scope, node, base));
}

/** What is folded to a constant has read no variable: C warns of those that nobody reads. */
function forget(value: Expr): void {
  childrenOf(value).forEach(forget);
  if ("place" in value && value.place.kind === "local") value.place.local.reads--;
}

export function lowerElement(scope: Scope, node: ts.ElementAccessExpression): Expr {
  return valueOf(placeOf(scope, node));
}

/** Whether `a.b` is a name in a module or enumeration, not a field. */
function isQualifiedName(scope: Scope, node: ts.PropertyAccessExpression): boolean {
  const inner = node.expression;
  if (ts.isPropertyAccessExpression(inner)) return isQualifiedName(scope, inner) && isEnum(scope, inner.name);
  if (!ts.isIdentifier(inner)) return false;
  const declaration = scope.front.declarationOf(inner);
  return declaration !== undefined && (ts.isSourceFile(declaration) || ts.isEnumDeclaration(declaration));
}

function isEnum(scope: Scope, name: ts.Node): boolean {
  const declaration = scope.front.declarationOf(name);
  return declaration !== undefined && ts.isEnumDeclaration(declaration);
}

/** The variable, field or element that an expression names. */
export function placeOf(scope: Scope, node: ts.Expression): Place {
  if (ts.isParenthesizedExpression(node)) return placeOf(scope, node.expression);
  if (ts.isIdentifier(node)) {
    const found = resolveName(scope, node, node);
    if ("place" in found) return found.place;
  }
  if (ts.isPropertyAccessExpression(node)) {
    if (!isQualifiedName(scope, node)) return fieldPlace(scope, node, lowerBase(scope, node.expression));
    const found = resolveName(scope, node.name as ts.Identifier, node);
    if ("place" in found) return found.place;
  }
  if (ts.isElementAccessExpression(node)) return elementPlace(scope, node);
  throw refuse.notAPlace(scope.front.loc(node));
}

/** What a field or element is taken of: a reference that is not null. */
export function lowerBase(scope: Scope, node: ts.Expression): Expr {
  const base = lowerExpression(scope, node);
  return base.type.kind === "ref" ? nonNull(scope, base, node) : base;
}

function fieldPlace(scope: Scope, node: ts.PropertyAccessExpression, base: Expr): Place {
  const type = base.type;
  if (type.kind === "string") throw scope.front.refuse(node, "stringOperation");
  if (type.kind === "record") throw refuse.recordChanged(scope.front.loc(node), typeName(type));
  const struct = type.kind === "ref" && type.target.kind === "struct" ? type.target : null;
  if (struct?.bitFields.has(node.name.text)) throw refuse.bitFieldPlace(scope.front.loc(node));
  const field = struct?.fields.find((one) => one.name === node.name.text);
  const declaration = field ? undefined : scope.front.declarationOf(node.name);
  if (declaration && ts.isMethodDeclaration(declaration)) throw refuse.functionValue(scope.front.loc(node), node.name.text);
  if (!field) throw refuse.unknownName(scope.front.loc(node.name), `${typeName(type)}.${node.name.text}`);
  return { kind: "field", type: field.type, base, field };
}

function elementPlace(scope: Scope, node: ts.ElementAccessExpression): Place {
  const { front } = scope;
  if (node.questionDotToken) throw front.refuse(node, "optionalChain");
  const base = lowerBase(scope, node.expression);
  if (base.type.kind === "string") throw front.refuse(node, "stringOperation");
  const list = base.type.kind === "ref" ? base.type.target : base.type;
  if (list.kind !== "array" && list.kind !== "slice") throw refuse.wrongType(front.loc(node.expression), typeName(base.type), "FixedArray or Slice");
  if (!isRepeatable(base)) throw refuse.builtinUse(front.loc(node.expression), "the slice's expression has effects", "a const for the slice first");
  const index = list.kind === "array" ? lowerIndex(scope, node.argumentExpression, list.length) : lowerSliceIndex(scope, node.argumentExpression, base);
  if (isImpure(index) && !isStable(base)) {
    throw refuse.builtinUse(front.loc(node), "the array and its index depend on the order of evaluation", "a const for the index first");
  }
  return { kind: "element", type: list.element, base, index };
}

/** Below the length that the slice has, unless a loop has proved it. */
function lowerSliceIndex(scope: Scope, node: ts.Expression, slice: Expr): Expr {
  const index = lowerExpression(scope, node, INTS.u32);
  const value: Expr = index.kind === "const" && index.type !== BOOL ? coerce(scope, index, INTS.u32, node) : index;
  if (value.type.kind !== "int" || value.type.signed || value.type.bits === 64) throw refuse.indexType(scope.front.loc(node), typeName(value.type));
  const local = fixedSlice(slice);
  const isProved = local && value.kind === "load" && value.place.kind === "local" && value.place.local.below === local;
  if (isProved) return value;
  return { kind: "checkIndex", type: INTS.u32, value, length: lengthOf(slice), site: site(scope, node, "index outside the slice") };
}

function lowerIndex(scope: Scope, node: ts.Expression, length: number): Expr {
  const loc = scope.front.loc(node);
  const index = lowerExpression(scope, node, INTS.u32);
  if (index.kind === "const" && index.type !== BOOL) {
    if (index.value < 0n || index.value >= BigInt(length)) throw refuse.indexRange(loc, index.value, length);
    return { ...index, type: INTS.u32 };
  }
  const type: Type = index.type;
  if (type.kind !== "int" || type.signed || type.bits === 64) throw refuse.indexType(loc, typeName(type));
  if (largest(index) < BigInt(length)) return index;
  return { kind: "checkIndex", type: INTS.u32, value: index, length, site: site(scope, node, `index outside ${length} elements`) };
}
