/** Record types: `type Range = { start: u64; end: u64 }`, and unions of records that a tag tells apart. */
import { ts } from "./typescript.cjs";
import { Refusal, refuse } from "../diagnostics.ts";
import { BOOL, type RecordField, type RecordType, type Type, type Variant } from "../ir.ts";
import { layOutRecord } from "../layout.ts";
import { enumOf } from "./constants.ts";
import { type Front, hasTag } from "./front.ts";
import { type TypeArgument, argumentsOf, instanceName, instanceOf } from "./instance.ts";
import { complete, valueType } from "./types.ts";

export type RecordDeclaration = ts.TypeAliasDeclaration | ts.InterfaceDeclaration;

/** Whether a type's declaration makes a record: an object type, a union of those, an interface of fields. */
export function isRecordDeclaration(front: Front, node: ts.Declaration): node is RecordDeclaration {
  const known = front.recordDeclarations.get(node);
  if (known !== undefined) return known;
  front.recordDeclarations.set(node, false); // while it is looked at: an alias of itself is none
  const found = ts.isInterfaceDeclaration(node)
    ? node.members.length > 0 && node.members.every(ts.isPropertySignature)
    : ts.isTypeAliasDeclaration(node) && isRecordType(front, node.type);
  front.recordDeclarations.set(node, found);
  return found;
}

function isRecordType(front: Front, node: ts.TypeNode): boolean {
  if (ts.isTypeLiteralNode(node)) return true;
  return ts.isUnionTypeNode(node) && node.types.every((part) => ts.isTypeLiteralNode(part) || namesRecord(front, part));
}

function namesRecord(front: Front, node: ts.TypeNode): boolean {
  const declaration = ts.isTypeReferenceNode(node) ? front.declarationOf(node.typeName) : undefined;
  return declaration !== undefined && isRecordDeclaration(front, declaration);
}

/** The record that a declaration makes with the type arguments; `use` is where it was named. */
export function recordOf(front: Front, node: RecordDeclaration, args: readonly TypeArgument[], use: ts.Node): RecordType {
  if (front.pending.has(node)) throw refuse.recursiveStruct(front.loc(node.name), node.name.text);
  front.pending.add(node);
  try {
    return instanceOf(front, front.instances.records, node, args, use, (_instance, keep) => {
      const name = instanceName(node.name.text, args);
      const record: RecordType = {
        kind: "record", name, cName: name, loc: front.loc(node.name), tag: null, variants: [], mustUse: hasTag(node, "mustUse"), size: 0, align: 1,
      };
      const isWhole = !ts.isInterfaceDeclaration(node) || (!node.heritageClauses && front.symbolOf(node.name)?.declarations?.length === 1);
      if (!isWhole) throw refuse.recordParts(front.loc(node.name), name);
      if (ts.isInterfaceDeclaration(node)) addVariant(front, record, node.members, node);
      else addVariants(front, record, node.type);
      chooseMembers(record);
      layOutRecord(record);
      keep(record);
    });
  } catch (error) {
    if (!(error instanceof Refusal) || !front.program.isCore(node)) throw error;
    throw new Refusal({ ...error.diagnostic, loc: front.loc(use) }); // the core library is right, its use is not
  } finally {
    front.pending.delete(node);
  }
}

function addVariants(front: Front, record: RecordType, node: ts.TypeNode): void {
  if (ts.isTypeLiteralNode(node)) return addVariant(front, record, node.members, node);
  if (ts.isUnionTypeNode(node)) return node.types.forEach((part) => addVariants(front, record, part));
  const declaration = ts.isTypeReferenceNode(node) ? front.declarationOf(node.typeName) : undefined;
  if (!declaration || !ts.isTypeReferenceNode(node) || !isRecordDeclaration(front, declaration)) throw front.refuse(node, "unionType");
  const other = recordOf(front, declaration, argumentsOf(front, declaration, node.typeArguments, node), node);
  for (const variant of other.variants) {
    const fields = variant.fields.map((field) => ({ ...field }));
    add(front, record, other.tag, { ...variant, fields }, node);
  }
}

function addVariant(front: Front, record: RecordType, members: ts.NodeArray<ts.TypeElement>, node: ts.Node): void {
  let tag: RecordField | null = null;
  let value = 0n;
  let label = "";
  const fields: RecordField[] = [];
  for (const member of members) {
    const plain = ts.isPropertySignature(member) && ts.isIdentifier(member.name) && !member.questionToken;
    if (!plain) throw refuse.recordMember(front.loc(member));
    if (!member.type) throw refuse.needsAnnotation(front.loc(member), "a field", `${member.name.getText()}: u32;`);
    const name = (member.name as ts.Identifier).text;
    const literal = tagValue(front, member.type);
    if (literal) {
      if (tag) throw refuse.recordTag(front.loc(member), `${tag.name} tells the variants apart already`);
      tag = { name, type: literal.type, offset: 0 };
      ({ value, label } = literal);
      continue;
    }
    const type = complete(front, valueType(front, member.type));
    if (type.kind === "void" || type.kind === "never") throw refuse.notStorage(front.loc(member.type), type.kind);
    fields.push({ name, type, offset: 0 });
  }
  if (!tag && fields.length === 0) throw refuse.recordMember(front.loc(node));
  add(front, record, tag, { value, label, fields, member: null }, node);
}

function add(front: Front, record: RecordType, tag: RecordField | null, variant: Variant, node: ts.Node): void {
  const loc = front.loc(node);
  if (record.variants.length === 0) record.tag = tag && { ...tag };
  else {
    const known = record.tag;
    const same = known && tag && known.name === tag.name && known.type.kind === tag.type.kind
      && (known.type.kind !== "int" || (tag.type.kind === "int" && known.type.enum === tag.type.enum));
    if (!same) throw refuse.recordTag(loc, known ? `this variant has no ${known.name} of the same enumeration` : "nothing tells the variants apart");
    if (record.variants.some((other) => other.value === variant.value)) throw refuse.recordTag(loc, `${variant.label} stands for two variants`);
  }
  record.variants.push(variant);
}

/** A field's type that is one enum member, true or false. */
function tagValue(front: Front, node: ts.TypeNode): { type: Type; value: bigint; label: string } | null {
  if (ts.isLiteralTypeNode(node)) {
    if (node.literal.kind === ts.SyntaxKind.TrueKeyword) return { type: BOOL, value: 1n, label: "true" };
    if (node.literal.kind === ts.SyntaxKind.FalseKeyword) return { type: BOOL, value: 0n, label: "false" };
    throw refuse.recordTag(front.loc(node), `${node.getText()} is no enum member, true or false`);
  }
  if (!ts.isTypeReferenceNode(node)) return null;
  const member = front.declarationOf(node.typeName);
  if (!member || !ts.isEnumMember(member)) return null;
  const declaration = enumOf(front, member.parent);
  const name = member.name.getText();
  const value = declaration.members.get(name);
  if (value === undefined) return null;
  return { type: { kind: "int", bits: 32, signed: false, enum: declaration }, value, label: `${declaration.name}.${name}` };
}

/** One field whose name no other variant has stands in C's union itself; others in a struct with the variant's name. */
function chooseMembers(record: RecordType): void {
  const { variants } = record;
  for (const variant of variants) {
    const [only] = variant.fields;
    const others = variants.filter((other) => other !== variant);
    const alone = variant.fields.length === 0
      || (variant.fields.length === 1 && only!.name !== record.tag?.name && !others.some((other) => other.fields.some((field) => field.name === only!.name)));
    variant.member = variants.length === 1 || alone ? null : memberName(record, variant);
  }
  const direct = new Set([record.tag?.name, ...variants.flatMap((variant) => (variant.member ? [] : variant.fields.map((field) => field.name)))]);
  for (const variant of variants) while (variant.member && direct.has(variant.member)) variant.member += "_";
}

/** `Shape.ROUND_RECTANGLE` is roundRectangle; true and false are named after the tag. */
function memberName(record: RecordType, variant: Variant): string {
  const name = record.tag!.name;
  if (record.tag!.type.kind === "bool") return variant.value ? `${name}True` : `${name}False`;
  const words = variant.label.slice(variant.label.indexOf(".") + 1);
  if (/[a-z]/.test(words)) return words[0]!.toLowerCase() + words.slice(1);
  return words.toLowerCase().replace(/_+(\w)/g, (_all, letter: string) => letter.toUpperCase());
}

/** Why zeroed storage would be no value of the record; null if it is one. */
export function startsAsZeroes(record: RecordType): string | null {
  const first = record.variants.find((variant) => variant.value === 0n);
  if (!first) return `no variant has the ${record.tag!.name} 0`;
  for (const variant of record.variants) {
    for (const field of variant.fields) {
      if (holdsText(field.type)) return `${field.name} is a string`;
      if (variant !== first) continue;
      if (field.type.kind === "ref" && !field.type.nullable) return `${field.name} could be null`;
      const inner = field.type.kind === "record" ? startsAsZeroes(field.type) : null;
      if (inner) return inner;
    }
  }
  return null;
}

function holdsText(type: Type): boolean {
  return type.kind === "string" || (type.kind === "record" && type.variants.some((variant) => variant.fields.some((field) => holdsText(field.type))));
}

