/** The core library: one flat table from a function's name to how it is lowered. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import {
  type AtomicOp, type BuiltinName, type Expr, HOST_VIRTUAL, INTS, type Place, STRING, type StructType, type Type, VOID, isAggregate, typeName,
} from "../ir.ts";
import { alignOf, sizeOf } from "../layout.ts";
import { lowerAs, nonNull } from "./coerce.ts";
import type { Scope } from "./front.ts";
import { CONVERSIONS, lowerConversion } from "./lower-convert.ts";
import { lowerExpression } from "./lower-expression.ts";
import { arithmetic } from "./lower-operator.ts";
import { placeOf, valueOf } from "./lower-place.ts";
import { lowerSliceAt, lowerSliceOf } from "./lower-slice.ts";
import { isImpure, ordered, stabilise } from "./order.ts";
import { site } from "./sites.ts";
import { complete, storageType } from "./types.ts";

type Lower = (scope: Scope, node: ts.CallExpression) => Expr;

const TABLE: Record<string, Lower> = {
  sizeOf: (scope, node) => constant(sizeOf(typeArgument(scope, node))),
  offsetOf,
  fourCC,
  addressOf,
  at,
  sliceOf: lowerSliceOf,
  sliceAt: lowerSliceAt,
  load8: runtime("load8", INTS.u8, [HOST_VIRTUAL]),
  load16: runtime("load16", INTS.u16, [HOST_VIRTUAL]),
  load32: runtime("load32", INTS.u32, [HOST_VIRTUAL]),
  load64: runtime("load64", INTS.u64, [HOST_VIRTUAL]),
  store8: runtime("store8", VOID, [HOST_VIRTUAL, INTS.u8]),
  store16: runtime("store16", VOID, [HOST_VIRTUAL, INTS.u16]),
  store32: runtime("store32", VOID, [HOST_VIRTUAL, INTS.u32]),
  store64: runtime("store64", VOID, [HOST_VIRTUAL, INTS.u64]),
  copyBytes: runtime("copyBytes", VOID, [HOST_VIRTUAL, HOST_VIRTUAL, INTS.u64]),
  fillBytes: runtime("fillBytes", VOID, [HOST_VIRTUAL, INTS.u8, INTS.u64]),
  trapText: runtime("trapText", STRING, [INTS.u32]),
  byteAt: runtime("byteAt", INTS.u8, [STRING, INTS.u32]),
  checkedAdd: (scope, node) => checked(scope, node, ts.SyntaxKind.PlusToken),
  checkedSub: (scope, node) => checked(scope, node, ts.SyntaxKind.MinusToken),
  checkedMul: (scope, node) => checked(scope, node, ts.SyntaxKind.AsteriskToken),
  atomicLoad: (scope, node) => atomic(scope, node, "atomicLoad"),
  atomicStore: (scope, node) => atomic(scope, node, "atomicStore"),
  atomicAdd: (scope, node) => atomic(scope, node, "atomicAdd"),
  atomicExchange: (scope, node) => atomic(scope, node, "atomicExchange"),
};

/** Functions whose first argument is a place, not a value. */
export const TAKES_PLACE = new Set(["addressOf", "atomicLoad", "atomicStore", "atomicAdd", "atomicExchange"]);

export function lowerBuiltin(scope: Scope, node: ts.CallExpression, name: string): Expr {
  checkArguments(scope, node, name);
  const conversion = CONVERSIONS[name];
  if (conversion) return lowerConversion(scope, node, conversion.type, conversion.wraps);
  const lower = TABLE[name];
  if (lower) return lower(scope, node);
  const loc = scope.front.loc(node);
  if (name === "zeroed") throw refuse.builtinUse(loc, "zeroed() only stands where storage is declared", "const s: S = zeroed()");
  if (name === "filled") throw refuse.builtinUse(loc, "filled(…) only stands where a constant table is declared", "const TABLE: FixedArray<u32, 256> = filled(fill) at module level");
  if (name === "ignore" || name === "assert" || name === "unreachable") throw refuse.statementOnly(loc, name);
  if (name === "assertLayout" || name === "assertStatic") throw refuse.builtinUse(loc, `${name} only stands at module level`);
  throw refuse.unknownName(loc, name);
}

/** A call of the core library has as many arguments as that declares. */
export function checkArguments(scope: Scope, node: ts.CallExpression, name: string): void {
  const declaration = scope.front.declarationOf(node.expression);
  if (!declaration || !ts.isFunctionDeclaration(declaration)) return;
  const most = declaration.parameters.length;
  const least = declaration.parameters.filter((parameter) => !parameter.questionToken).length;
  const given = node.arguments.length;
  if (given < least || given > most) throw refuse.builtinUse(scope.front.loc(node), `${name} takes ${least === most ? least : `${least} to ${most}`} arguments`);
}

function runtime(name: BuiltinName, result: Type, params: Type[]): Lower {
  return (scope, node) => {
    if (!scope.func) throw refuse.notConstant(scope.front.loc(node));
    const args = node.arguments.map((argument, i) => lowerAs(scope, argument, params[i]!));
    return ordered(scope, args, (values) => ({ kind: "builtin", type: result, name, args: values }));
  };
}

/** The operator that traps where it would wrap. Of constants it is exact already. */
function checked(scope: Scope, node: ts.CallExpression, operator: ts.SyntaxKind): Expr {
  const [a, b] = node.arguments;
  const value = arithmetic(scope, operator, lowerExpression(scope, a!), lowerExpression(scope, b!), node, a!, b!);
  const withSite = (one: Expr): Expr => {
    if (one.kind === "sequence") return { ...one, value: withSite(one.value) };
    return one.kind === "binary" ? { ...one, site: site(scope, node, `overflow of ${typeName(one.type)}`) } : one;
  };
  return withSite(value);
}

function constant(value: number): Expr {
  return { kind: "const", type: INTS.u32, value: BigInt(value) };
}

function typeArgument(scope: Scope, node: ts.CallExpression): Type {
  const argument = node.typeArguments?.[0];
  if (!argument) {
    const name = node.expression.getText();
    throw refuse.builtinUse(scope.front.loc(node), `${name} needs a type`, `${name}<T>(…)`);
  }
  return complete(scope.front, storageType(scope.front, argument));
}

function offsetOf(scope: Scope, node: ts.CallExpression): Expr {
  const struct = structArgument(scope, node);
  const name = node.arguments[0];
  const field = name && ts.isStringLiteral(name) ? struct.fields.find((one) => one.name === name.text) : undefined;
  if (!field) throw refuse.builtinUse(scope.front.loc(node), `${struct.name} has no such field`, `offsetOf<${struct.name}>("field")`);
  return constant(field.offset);
}

export function structArgument(scope: Scope, node: ts.CallExpression): StructType {
  const type = typeArgument(scope, node);
  if (type.kind !== "struct") throw refuse.builtinUse(scope.front.loc(node), `${typeName(type)} is not a struct`);
  return type;
}

function fourCC(scope: Scope, node: ts.CallExpression): Expr {
  const text = node.arguments[0];
  if (!text || !ts.isStringLiteral(text) || !/^[\x20-\x7e]{4}$/.test(text.text)) {
    throw refuse.builtinUse(scope.front.loc(node), "fourCC takes four ASCII characters", 'fourCC("APIC")');
  }
  const value = [...text.text].reduce((sum, character, i) => sum + character.charCodeAt(0) * 2 ** (8 * i), 0);
  return { ...constant(value), name: `fourCC "${text.text}"` } as Expr;
}

function addressOf(scope: Scope, node: ts.CallExpression): Expr {
  const argument = node.arguments[0]!;
  if (!scope.func) throw refuse.notConstant(scope.front.loc(node));
  if (ts.isCallExpression(argument)) return refAddress(scope, lowerExpression(scope, argument), argument);
  const place = placeOf(scope, argument);
  if (place.type.kind === "ref" || isAggregate(place.type)) return refAddress(scope, valueOf(place), argument);
  if (place.kind === "local") {
    if (!place.local.addressed) throw refuse.notAPlace(scope.front.loc(argument));
    place.local.reads++;
  }
  return { kind: "placeAddress", type: HOST_VIRTUAL, place };
}

function refAddress(scope: Scope, value: Expr, node: ts.Node): Expr {
  if (value.type.kind !== "ref") throw refuse.notAPlace(scope.front.loc(node));
  return { kind: "refAddress", type: HOST_VIRTUAL, value: nonNull(scope, value, node) };
}

function at(scope: Scope, node: ts.CallExpression): Expr {
  const target = typeArgument(scope, node);
  if (!isAggregate(target)) {
    throw refuse.builtinUse(scope.front.loc(node), `at<T> gives a struct or array, ${typeName(target)} is neither`, "load32(address) and the like");
  }
  if (!scope.func) throw refuse.notConstant(scope.front.loc(node));
  const value = lowerAs(scope, node.arguments[0]!, HOST_VIRTUAL);
  return { kind: "at", type: { kind: "ref", target, nullable: false }, value };
}

function atomic(scope: Scope, node: ts.CallExpression, op: AtomicOp): Expr {
  if (!scope.func) throw refuse.notConstant(scope.front.loc(node));
  const place = placeOf(scope, node.arguments[0]!);
  if (place.type.kind !== "int" || place.type.bits < 32 || place.type.signed) {
    throw refuse.builtinUse(scope.front.loc(node), `${op} works on u32 and u64, this is ${typeName(place.type)}`);
  }
  if (place.kind === "field" && alignOfBase(place) < place.type.bits / 8) {
    throw refuse.builtinUse(scope.front.loc(node), "this field may not be aligned", "a field of a Struct that is not Packed");
  }
  if (place.kind === "local") place.local.reads++;
  const type = op === "atomicStore" ? VOID : place.type;
  const argument = node.arguments[1];
  if (!argument) return { kind: "atomic", type, op, place, value: null };
  const value = lowerAs(scope, argument, place.type);
  if (!isImpure(value)) return { kind: "atomic", type, op, place, value };
  const temps: never[] = [];
  const stable = stabilise(scope, place, temps);
  const result: Expr = { kind: "atomic", type, op, place: stable, value };
  return temps.length === 0 ? result : { kind: "sequence", type, temps, value: result };
}

function alignOfBase(place: Extract<Place, { kind: "field" }>): number {
  const target = place.base.type.kind === "ref" ? place.base.type.target : null;
  return target ? alignOf(target) : 1;
}
