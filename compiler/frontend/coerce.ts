/** Where a value of one type stands where another is needed: what passes, what is refused. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { type Expr, type IntType, type RefType, type Type, sameInt, sameStorage, typeName } from "../ir.ts";
import { fitConstant } from "./constants.ts";
import type { Scope } from "./front.ts";
import { lowerExpression } from "./lower-expression.ts";
import { convertRecord } from "./lower-record.ts";
import { site } from "./sites.ts";

/** Lowers an expression that has to be of a type. */
export function lowerAs(scope: Scope, node: ts.Expression, type: Type): Expr {
  return coerce(scope, lowerExpression(scope, node, type), type, node);
}

export function coerce(scope: Scope, value: Expr, type: Type, node: ts.Node): Expr {
  const from = value.type;
  if (type.kind === "int") return toInt(scope, value, type, node);
  if (type.kind === "ref") return toRef(scope, value, type, node);
  if (type.kind === "record" || type.kind === "slice") {
    if (sameStorage(from, type)) return value;
    const converted = from.kind === "record" && type.kind === "record" ? convertRecord(scope, value, from, type, node as ts.Expression) : null;
    if (!converted) throw mismatch(scope, from, type, node);
    return converted;
  }
  if (from.kind !== type.kind) throw mismatch(scope, from, type, node);
  return value;
}

function toInt(scope: Scope, value: Expr, type: IntType, node: ts.Node): Expr {
  const from = value.type;
  const loc = scope.front.loc(node);
  if (value.kind === "const" && (from.kind === "literal" || from.kind === "int")) {
    const isOtherEnum = type.enum && from.kind === "int" && from.enum !== type.enum;
    const isNoMember = type.enum && ![...type.enum.members.values()].includes(value.value);
    if (isOtherEnum || isNoMember) throw refuse.wrongType(loc, typeName(from), typeName(type), `x as ${typeName(type)}`);
    if (from.kind === "literal" && (from.js === "bigint") !== (type.bits === 64)) {
      throw refuse.literalKind(loc, from.js, typeName(type), inKind(node.getText(), type));
    }
    const fitted = fitConstant(value, type);
    if (fitted) return fitted;
    if (from.kind === "literal") throw refuse.literalRange(loc, value.value, typeName(type), wrapped(value.value, type));
  }
  if (from.kind !== "int" || !sameInt(from, type)) throw mismatch(scope, from, type, node);
  if (from.domain && type.domain && !isDomainOf(from.domain, type.domain)) throw refuse.domainMix(loc, from.domain, type.domain);
  if (type.enum && from.enum !== type.enum) throw refuse.wrongType(loc, typeName(from), typeName(type), `${node.getText()} as ${typeName(type)}`);
  return value;
}

/** The constant as a type of 64 bits, or of fewer, has it. */
function inKind(text: string, type: IntType): string {
  if (!/^\d\w*$/.test(text)) return `${typeName(type)}(${text})`;
  return type.bits === 64 ? `${text}n` : text.replace(/n$/, "");
}

function wrapped(value: bigint, type: IntType): string | undefined {
  return value < 0n && !type.signed ? `0x${BigInt.asUintN(type.bits, value).toString(16)}` : undefined;
}

function toRef(scope: Scope, value: Expr, type: RefType, node: ts.Node): Expr {
  const from = value.type;
  if (value.kind === "null") {
    if (!type.nullable) throw mismatch(scope, from, type, node);
    return { ...value, type };
  }
  if (from.kind !== "ref" || !sameStorage(from.target, type.target)) throw mismatch(scope, from, type, node);
  return type.nullable ? value : nonNull(scope, value, node);
}

/** A reference that may be null by its declaration, where tsc has proved that it is not. */
export function nonNull(scope: Scope, value: Expr, node: ts.Node): Expr {
  if (value.type.kind !== "ref" || !value.type.nullable) return value;
  if (!isNarrowed(scope, node)) throw refuse.mayBeNull(scope.front.loc(node));
  // tsc keeps a narrowing across calls, which may have changed anything but a local.
  const proved = value.kind === "load" && value.place.kind === "local" && !value.place.local.addressed;
  return {
    kind: "notNull", type: { ...value.type, nullable: false }, value,
    site: proved ? null : site(scope, node, "null"),
  };
}

export function isNarrowed(scope: Scope, node: ts.Node): boolean {
  const type = scope.front.program.checker.getTypeAtLocation(node);
  const parts = type.isUnion() ? type.types : [type];
  return !parts.some((part) => part.flags & (ts.TypeFlags.Null | ts.TypeFlags.Never | ts.TypeFlags.Any));
}

export function mismatch(scope: Scope, from: Type, to: Type, node: ts.Node): Error {
  return refuse.wrongType(scope.front.loc(node), typeName(from), typeName(to), advice(from, to, node));
}

function advice(from: Type, to: Type, node: ts.Node): string | undefined {
  const text = node.getText().length < 40 ? node.getText() : "…";
  if (to.kind === "int" && (from.kind === "int" || from.kind === "bool")) {
    const name = `${to.signed ? "i" : "u"}${to.bits}`;
    const narrows = from.kind === "int" && from.bits > to.bits;
    return narrows ? `${name}(${text}), or wrap${name.toUpperCase()}(${text}) to keep the low bits` : `${name}(${text})`;
  }
  const isArray = from.kind === "ref" && from.target.kind === "array";
  if (to.kind === "record" && from.kind === "record") return "a const that the tag has narrowed to one variant of both, or a new one: { … }";
  if (to.kind === "slice" && isArray) return `sliceOf(${text})`;
  if (to.kind === "bool" && from.kind === "int") return `${text} !== ${from.bits === 64 ? "0n" : "0"}`;
  if (to.kind === "bool" && from.kind === "ref") return `${text} !== null`;
  return undefined;
}

/** Whether an address of one kind serves as another: memory is mapped at its own address, so physical ones can be dereferenced. */
function isDomainOf(from: string, to: string): boolean {
  return from === to || (from === "HostPhysical" && to === "HostVirtual");
}
