/** Slices: a part of an array with its length. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { type Expr, HOST_VIRTUAL, INTS, type Local, type SliceType, type Type, typeName } from "../ir.ts";
import { placeChildren } from "../walk.ts";
import { lowerAs } from "./coerce.ts";
import type { Scope } from "./front.ts";
import { sliceType } from "./instance.ts";
import { lowerBase } from "./lower-place.ts";
import { isStable, ordered, repeatable } from "./order.ts";
import { site } from "./sites.ts";
import { storageType } from "./types.ts";

/** `sliceOf(list)`, `sliceOf(list, from, to)`: a whole array or slice, or the elements from `from` to before `to`. */
export function lowerSliceOf(scope: Scope, node: ts.CallExpression): Expr {
  const { front } = scope;
  if (!scope.func) throw refuse.notConstant(front.loc(node));
  const [list, fromNode, toNode] = node.arguments;
  const base = lowerBase(scope, list!);
  const type = sliceMadeOf(scope, base.type);
  if (!type) throw refuse.wrongType(front.loc(list!), typeName(base.type), "FixedArray or Slice");
  if (!isRepeatable(base)) throw refuse.builtinUse(front.loc(list!), "the list's expression has effects", "a const for the list first");
  const length = lengthOf(base);
  if (!fromNode) return { kind: "slice", type, base, from: null, length };
  const from = lowerAs(scope, fromNode, INTS.u32);
  const to = toNode ? lowerAs(scope, toNode, INTS.u32) : length;
  if (from.kind === "const" && to.kind === "const" && length.kind === "const") return constantRange(scope, node, { type, base, from, to, length });
  const check = site(scope, node, length.kind === "const" ? `range outside ${length.value} elements` : "range outside the slice");
  const { temps, values: [f, t] } = repeatable(scope, [from, to]);
  const start: Expr = { kind: "checkRange", type: INTS.u32, from: f!, to: t!, length, site: check };
  const value: Expr = { kind: "slice", type, base, from: start, length: { kind: "binary", type: INTS.u32, op: "-", left: t!, right: f!, site: null } };
  return temps.length === 0 ? value : { kind: "sequence", type, temps, value };
}

type Const = Extract<Expr, { kind: "const" }>;
interface Range { type: SliceType; base: Expr; from: Const; to: Const; length: Const }

function constantRange(scope: Scope, node: ts.CallExpression, { type, base, from, to, length }: Range): Expr {
  if (from.value > to.value || to.value > length.value) throw refuse.rangeOutside(scope.front.loc(node), from.value, to.value, length.value);
  return { kind: "slice", type, base, from: from.value === 0n ? null : from, length: { ...to, value: to.value - from.value } };
}

/** `sliceAt<T>(address, length)`: the second door from addresses to types. */
export function lowerSliceAt(scope: Scope, node: ts.CallExpression): Expr {
  const { front } = scope;
  const argument = node.typeArguments?.[0];
  if (!argument) throw refuse.builtinUse(front.loc(node), "sliceAt needs a type", "sliceAt<T>(address, length)");
  if (!scope.func) throw refuse.notConstant(front.loc(node));
  const element = storageType(front, argument);
  const type = sliceType(front, element);
  const address = lowerAs(scope, node.arguments[0]!, HOST_VIRTUAL);
  const length = lowerAs(scope, node.arguments[1]!, INTS.u32);
  return ordered(scope, [address, length], ([at, count]) => {
    const base: Expr = { kind: "at", type: { kind: "ref", target: { kind: "array", element, length: 1 }, nullable: false }, value: at! };
    return { kind: "slice", type, base, from: null, length: count! };
  });
}

function sliceMadeOf(scope: Scope, type: Type): SliceType | null {
  if (type.kind === "slice") return type;
  return type.kind === "ref" && type.target.kind === "array" ? sliceType(scope.front, type.target.element) : null;
}

/** The number of elements of an array or slice, which is evaluated beside the list itself. */
export function lengthOf(list: Expr): Expr {
  if (list.type.kind === "slice") return { kind: "sliceLength", type: INTS.u32, value: list };
  const target = list.type.kind === "ref" ? list.type.target : null;
  return { kind: "const", type: INTS.u32, value: BigInt(target?.kind === "array" ? target.length : 0) };
}

/** Gives the same twice in a row: no effect, no check. */
export function isRepeatable(list: Expr): boolean {
  if (list.type.kind !== "slice") return true; // its length is a constant
  if (isStable(list)) return true;
  return list.kind === "load" && placeChildren(list.place).every(isStable);
}

/** The local variable that a slice is, if it never changes. */
export function fixedSlice(list: Expr): Local | null {
  return list.kind === "load" && list.place.kind === "local" && list.place.local.fixed ? list.place.local : null;
}
