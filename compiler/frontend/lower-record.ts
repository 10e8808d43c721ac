/** Records: made by object literals, read by the variant that tsc has narrowed them to, never changed in place. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { BOOL, type Expr, type RecordField, type RecordType, type Type, type Variant, sameStorage, typeName } from "../ir.ts";
import { lowerAs } from "./coerce.ts";
import type { Scope } from "./front.ts";
import { isStable, ordered } from "./order.ts";

/** `{ ok: true, value: 5n }` where a record is expected. */
export function lowerObject(scope: Scope, node: ts.ObjectLiteralExpression, expected: Type | undefined): Expr {
  if (expected?.kind !== "record") throw scope.front.refuse(node, "objectLiteral");
  const given = new Map<string, ts.Expression>();
  for (const property of node.properties) {
    if (ts.isSpreadAssignment(property)) throw scope.front.refuse(property, "spread");
    const plain = (ts.isPropertyAssignment(property) || ts.isShorthandPropertyAssignment(property)) && ts.isIdentifier(property.name);
    if (!plain) throw refuse.recordMember(scope.front.loc(property));
    given.set((property.name as ts.Identifier).text, ts.isPropertyAssignment(property) ? property.initializer : property.name as ts.Identifier);
  }
  const variant = variantOf(scope, node, expected, given);
  const missing = variant.fields.filter((field) => !given.has(field.name)).map((field) => field.name);
  if (missing.length > 0) throw refuse.recordFields(scope.front.loc(node), typeName(expected), missing);
  // The values are computed in the order in which they are written, and stand in that of the fields.
  const written = [...given].filter(([name]) => name !== expected.tag?.name).map(([name, value]) => {
    const index = variant.fields.findIndex((field) => field.name === name);
    if (index < 0) throw refuse.unknownName(scope.front.loc(value), `${typeName(expected)}.${name}`);
    return { index, value: lowerAs(scope, value, variant.fields[index]!.type) };
  });
  return ordered(scope, written.map((one) => one.value), (values) => {
    const inOrder: Expr[] = [];
    written.forEach(({ index }, i) => { inOrder[index] = values[i]!; });
    return { kind: "record", type: expected, variant, values: inOrder };
  });
}

function variantOf(scope: Scope, node: ts.Node, record: RecordType, given: Map<string, ts.Expression>): Variant {
  const { tag, variants } = record;
  if (!tag) return variants[0]!;
  const label = given.get(tag.name);
  if (!label) throw refuse.recordFields(scope.front.loc(node), typeName(record), [tag.name]);
  const value = lowerAs(scope, label, tag.type);
  if (value.kind !== "const") throw refuse.recordTag(scope.front.loc(label), `${tag.name} has to be a constant here`);
  const variant = variants.find((one) => one.value === value.value);
  if (!variant) throw refuse.recordTag(scope.front.loc(label), `${typeName(record)} has no such variant`);
  return variant;
}

/** A field of a record. One that only some variants have is read where tsc has narrowed a local variable to one of them. */
export function lowerMember(scope: Scope, node: ts.PropertyAccessExpression, record: Expr): Expr {
  const type = record.type as RecordType;
  const name = node.name.text;
  if (type.tag?.name === name) return { kind: "member", type: type.tag.type, value: record, variant: null, field: type.tag };
  const variants = type.variants.length === 1 ? type.variants : narrowed(scope, node, record, type);
  const members = variants.map((variant) => memberOf(record, variant, name));
  const [first] = members;
  if (!first) throw refuse.unknownName(scope.front.loc(node.name), `${typeName(type)}.${name}`);
  // A field that several variants have may lie elsewhere in each.
  return members.slice(0, -1).reduceRight<Expr>((otherwise, member, i) => {
    const tag: Expr = { kind: "member", type: type.tag!.type, value: record, variant: null, field: type.tag! };
    const label: Expr = { kind: "const", type: type.tag!.type, value: variants[i]!.value, name: variants[i]!.label };
    return { kind: "conditional", type: first.type, test: { kind: "compare", type: BOOL, op: "==", left: tag, right: label }, yes: member!, no: otherwise };
  }, members.at(-1)!);
}

function memberOf(record: Expr, variant: Variant, name: string): Expr | null {
  const field = variant.fields.find((one) => one.name === name);
  return field ? { kind: "member", type: field.type, value: record, variant, field } : null;
}

/** The variants that are left, all of which have the field, of one type. */
function narrowed(scope: Scope, node: ts.PropertyAccessExpression, record: Expr, type: RecordType): Variant[] {
  const name = node.name.text;
  const found = variantsAt(scope, node.expression, type);
  const [first] = found.map((variant) => memberOf(record, variant, name));
  const isCommon = first && found.every((variant) => {
    const member = memberOf(record, variant, name);
    return member && sameStorage(member.type, first.type);
  });
  if (found.length !== 1 && !isCommon) throw refuse.notNarrowed(scope.front.loc(node), typeName(type), name, narrowingOf(type, name));
  // tsc keeps a narrowing across calls, which may have changed anything but a local.
  const isLocal = record.kind === "load" && record.place.kind === "local";
  if (!isLocal) throw refuse.narrowedPlace(scope.front.loc(node.expression), node.expression.getText());
  return found;
}

function narrowingOf(type: RecordType, name: string): string {
  const variant = type.variants.find((one) => one.fields.some((field) => field.name === name)) ?? type.variants[0]!;
  if (type.tag!.type.kind === "bool") return `if (${variant.value ? "" : "!"}r.${type.tag!.name}) { … }`;
  return `switch (r.${type.tag!.name}) { case ${variant.label}: … }`;
}

/** The variants that a record can be at a place in the source, by tsc's narrowing. */
export function variantsAt(scope: Scope, node: ts.Expression, type: RecordType): Variant[] {
  const { tag, variants } = type;
  if (!tag) return variants;
  const { checker } = scope.front.program;
  const at = checker.getTypeAtLocation(node);
  const parts = at.isUnion() ? at.types : [at];
  return variants.filter((variant) => parts.some((part) => {
    const property = part.getProperty(tag.name);
    return property && stands(checker, checker.getTypeOfSymbol(property), tag, variant.value);
  }));
}

function stands(checker: ts.TypeChecker, type: ts.Type, tag: RecordField, value: bigint): boolean {
  if (type.isUnion()) return type.types.some((part) => stands(checker, part, tag, value));
  if (tag.type === BOOL) return checker.typeToString(type) === (value ? "true" : "false");
  return type.isNumberLiteral() && BigInt(type.value) === value;
}

/** A record where another is needed that has the same variant: what `if (!r.ok) return r;` passes on. */
export function convertRecord(scope: Scope, value: Expr, from: RecordType, to: RecordType, node: ts.Expression): Expr | null {
  const found = variantsAt(scope, node, from);
  const source = found.length === 1 ? found[0] : undefined;
  const target = source && to.variants.find((one) => one.value === source.value);
  const sameTag = from.tag?.name === to.tag?.name && (!from.tag || sameStorage(from.tag.type, to.tag!.type));
  if (!source || !target || !sameTag || !isStable(value) || source.fields.length !== target.fields.length) return null;
  const values = target.fields.map((field): Expr | null => {
    const same = source.fields.find((one) => one.name === field.name && sameStorage(one.type, field.type));
    return same ? { kind: "member", type: same.type, value, variant: source, field: same } : null;
  });
  return values.some((one) => one === null) ? null : { kind: "record", type: to, variant: target, values: values as Expr[] };
}
