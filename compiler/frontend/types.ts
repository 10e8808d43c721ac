/** Type annotations to dialect types. The dialect never uses a type that tsc inferred. */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import {
  BOOL, HOST_VIRTUAL, INTS, type IntType, NEVER, STRING, type StructType, type Type, VOID, holdsReference, isAggregate, typeName,
} from "../ir.ts";
import { layOut } from "../layout.ts";
import { constantNumber, enumOf } from "./constants.ts";
import { declareMethods } from "./declare.ts";
import { type Front, hasModifier, hasTag } from "./front.ts";
import { ROOT, type TypeArgument, argumentsOf, instanceName, instanceOf, newInstance, sliceType } from "./instance.ts";
import { isRecordDeclaration, recordOf, startsAsZeroes } from "./records.ts";

const NAMED: Record<string, IntType> = {
  ...INTS,
  usize: INTS.u64,
  HostVirtual: HOST_VIRTUAL,
  HostPhysical: { ...INTS.u64, domain: "HostPhysical" },
  GuestPhysical: { ...INTS.u64, domain: "GuestPhysical" },
};

/** The type as storage has it: a struct is the struct itself. */
export function typeOfNode(front: Front, node: ts.TypeNode): Type {
  const known = front.instance === ROOT ? front.types : front.instance.types;
  let type = known.get(node);
  if (!type) {
    type = resolve(front, node);
    known.set(node, type);
  }
  return type;
}

/** The type as a variable, parameter or result has it: a struct is a reference to it. */
export function valueType(front: Front, node: ts.TypeNode): Type {
  return asValue(typeOfNode(front, node));
}

export function asValue(type: Type): Type {
  return isAggregate(type) ? { kind: "ref", target: type, nullable: false } : type;
}

/** The type of a field, element or static. */
export function storageType(front: Front, node: ts.TypeNode): Type {
  const type = typeOfNode(front, node);
  if (type.kind === "void" || type.kind === "never" || type.kind === "string") {
    throw refuse.notStorage(front.loc(node), typeName(type));
  }
  const reason = type.kind === "record" ? startsAsZeroes(type) : null;
  if (reason) throw refuse.recordStorage(front.loc(node), typeName(type), reason);
  return type;
}

function resolve(front: Front, node: ts.TypeNode): Type {
  switch (node.kind) {
    case ts.SyntaxKind.BooleanKeyword: return BOOL;
    case ts.SyntaxKind.StringKeyword: return STRING;
    case ts.SyntaxKind.VoidKeyword: return VOID;
    case ts.SyntaxKind.NeverKeyword: return NEVER;
    case ts.SyntaxKind.NumberKeyword:
    case ts.SyntaxKind.BigIntKeyword:
      throw refuse.bareNumber(front.loc(node), node.getText());
    case ts.SyntaxKind.AnyKeyword:
    case ts.SyntaxKind.UnknownKeyword:
    case ts.SyntaxKind.ObjectKeyword:
      throw front.refuse(node, "anyType");
    case ts.SyntaxKind.UndefinedKeyword: throw front.refuse(node, "undefinedValue");
    case ts.SyntaxKind.FunctionType: throw front.refuse(node, "closure");
    case ts.SyntaxKind.TypeLiteral: throw front.refuse(node, "inlineRecord");
    case ts.SyntaxKind.UnionType: return nullable(front, node as ts.UnionTypeNode);
    case ts.SyntaxKind.TypeReference: return reference(front, node as ts.TypeReferenceNode);
    case ts.SyntaxKind.ParenthesizedType: return typeOfNode(front, (node as ts.ParenthesizedTypeNode).type);
    default: throw refuse.notAType(front.loc(node), node.getText());
  }
}

function nullable(front: Front, node: ts.UnionTypeNode): Type {
  const isNull = (part: ts.TypeNode) => ts.isLiteralTypeNode(part) && part.literal.kind === ts.SyntaxKind.NullKeyword;
  const rest = node.types.filter((part) => !isNull(part));
  if (rest.length !== 1 || node.types.length !== 2) throw front.refuse(node, "unionType");
  const target = typeOfNode(front, rest[0]!);
  if (!isAggregate(target)) throw refuse.nullableTarget(front.loc(node), typeName(target));
  return { kind: "ref", target, nullable: true };
}

function reference(front: Front, node: ts.TypeReferenceNode): Type {
  const declaration = front.declarationOf(node.typeName);
  const name = node.typeName.getText();
  if (!declaration) throw refuse.notAType(front.loc(node), name);
  if (ts.isTypeParameterDeclaration(declaration)) return parameterType(front, declaration, node);
  const inCore = front.program.isCore(declaration);
  if (isRecordDeclaration(front, declaration) && !(inCore && ts.isInterfaceDeclaration(declaration))) {
    return recordOf(front, declaration, argumentsOf(front, declaration, node.typeArguments, node), node);
  }
  if (inCore) return coreType(front, node, ts.getNameOfDeclaration(declaration)?.getText() ?? name);
  if (ts.isClassDeclaration(declaration)) return structOf(front, declaration, argumentsOf(front, declaration, node.typeArguments, node), node);
  if (ts.isEnumDeclaration(declaration)) return { ...INTS.u32, enum: enumOf(front, declaration) };
  if (ts.isTypeAliasDeclaration(declaration)) {
    const args = argumentsOf(front, declaration, node.typeArguments, node);
    const instance = args.length > 0 ? newInstance(declaration, args, front.instance) : ROOT;
    return through(front, declaration, () => front.within(instance, () => typeOfNode(front, declaration.type)));
  }
  if (ts.isInterfaceDeclaration(declaration)) throw front.refuse(node, "interfaceType");
  throw refuse.notAType(front.loc(node), name);
}

/** What an alias stands for, which is not what it is made of. */
function through<T>(front: Front, alias: ts.TypeAliasDeclaration, look: () => T): T {
  if (front.pending.has(alias)) throw refuse.recursiveStruct(front.loc(alias.name), alias.name.text);
  front.pending.add(alias);
  try {
    return look();
  } finally {
    front.pending.delete(alias);
  }
}

function coreType(front: Front, node: ts.TypeReferenceNode, name: string): Type {
  if (name === "FixedArray") return fixedArray(front, node);
  if (name === "Slice" && node.typeArguments?.length === 1) return sliceType(front, storageType(front, node.typeArguments[0]!));
  if (name === "Newtype") return newtype(front, node);
  const named = NAMED[name];
  if (!named) throw refuse.notAType(front.loc(node), name);
  return named;
}

/** `Newtype<u64, "FrameNumber">`: an integer that does not mix with others of its width that have another name. */
function newtype(front: Front, node: ts.TypeReferenceNode): Type {
  const [base, name] = node.typeArguments ?? [];
  const type = base && typeOfNode(front, base);
  if (type?.kind !== "int" || type.domain || type.enum || !name || !ts.isLiteralTypeNode(name) || !ts.isStringLiteral(name.literal)) {
    throw refuse.notAType(front.loc(node), node.getText());
  }
  return { ...type, domain: name.literal.text };
}

/** What a type parameter stands for in the instance that is being made. */
function parameterType(front: Front, declaration: ts.TypeParameterDeclaration, node: ts.Node): Type {
  const meaning = front.instance.meaning.get(declaration);
  if (!meaning || meaning.kind === "number") throw refuse.notAType(front.loc(node), declaration.name.text);
  return meaning;
}

function fixedArray(front: Front, node: ts.TypeReferenceNode): Type {
  const [elementNode, lengthNode] = node.typeArguments ?? [];
  if (!elementNode || !lengthNode) throw refuse.notAType(front.loc(node), node.getText());
  const element = storageType(front, elementNode);
  const length = typeConstant(front, lengthNode);
  if (length === null || length < 1 || length > 0xffff_ffff) throw refuse.arrayLength(front.loc(lengthNode));
  return { kind: "array", element, length };
}

/** The number that a type stands for: a literal, `typeof CONSTANT`, or an alias of those. */
export function typeConstant(front: Front, node: ts.TypeNode): number | null {
  if (ts.isLiteralTypeNode(node)) return node.literal.kind === ts.SyntaxKind.NumericLiteral ? constantNumber(front, node.literal) : null;
  if (ts.isTypeQueryNode(node)) return constantNumber(front, node.exprName);
  if (ts.isTypeReferenceNode(node)) {
    const declaration = front.declarationOf(node.typeName);
    if (declaration && ts.isTypeParameterDeclaration(declaration)) {
      const meaning = front.instance.meaning.get(declaration);
      return meaning?.kind === "number" ? meaning.value : null;
    }
    if (declaration && ts.isTypeAliasDeclaration(declaration) && !declaration.typeParameters) return through(front, declaration, () => typeConstant(front, declaration.type));
    if (declaration && ts.isEnumMember(declaration)) return constantNumber(front, node.typeName);
  }
  return null;
}

/** The struct that a class makes with the type arguments; `use` is where it was named. */
export function structOf(front: Front, node: ts.ClassDeclaration, args: readonly TypeArgument[] = [], use: ts.Node = node): StructType {
  const failure = args.length === 0 ? front.failed.get(node) : undefined;
  if (failure) throw failure;
  return instanceOf(front, front.instances.structs, node, args, use, (instance, keep) => {
    const base = baseOf(front, node);
    const name = instanceName(node.name?.text ?? "", args);
    const loc = front.loc(node.name ?? node);
    const struct: StructType = {
      kind: "struct", name, cName: name, packed: base.name === "Packed", aligned: base.aligned, union: base.name === "Union", asm: hasTag(node, "asm"), loc,
      fields: base.word ? [{ name: "bits", type: base.word, offset: 0, loc }] : [], bitFields: new Map(),
      methods: new Map(), instance: args.length > 0, size: 0, align: 1,
    };
    keep(struct);
    try {
      for (const member of node.members) {
        if (ts.isMethodDeclaration(member)) continue;
        if (base.word) addBitField(front, struct, base.word, member);
        else addField(front, struct, member);
      }
      if (struct.fields.length === 0) throw refuse.structMember(loc);
    } catch (error) {
      if (args.length === 0) front.failed.set(node, error as never);
      throw error;
    }
    front.instances.classes.set(struct, { declaration: node, instance });
    if (args.length === 0) return;
    front.work.push(() => complete(front, struct));
    front.work.push(() => declareMethods(front, struct));
  });
}

/** Lays out the structs that a type embeds, and it itself. */
export function complete(front: Front, type: Type): Type {
  if (type.kind === "array") complete(front, type.element);
  if (type.kind !== "struct" || front.laidOut.has(type)) return type;
  if (front.pendingStructs.has(type)) throw refuse.recursiveStruct(type.loc, type.name);
  front.pendingStructs.add(type);
  try {
    for (const field of type.fields) complete(front, field.type);
    layOut(type);
    front.laidOut.add(type);
  } finally {
    front.pendingStructs.delete(type);
  }
  return type;
}

const BASES = ["Struct", "Packed", "Aligned", "Union", "BitField"];

interface StructBase { readonly name: string; readonly aligned: number; readonly word: IntType | null }

/** What a struct extends; `word` is the type of the one that has bit fields. */
function baseOf(front: Front, node: ts.ClassDeclaration): StructBase {
  const base = node.heritageClauses?.length === 1 ? node.heritageClauses[0]!.types[0] : undefined;
  const declaration = base && front.declarationOf(base.expression);
  const name = declaration && front.program.isCore(declaration) && ts.isClassDeclaration(declaration) ? declaration.name?.text : "";
  if (!name || !BASES.includes(name)) throw front.refuse(node.name ?? node, "classMember");
  if (name === "Aligned") return { name, aligned: alignmentOf(front, base!), word: null };
  if (name !== "BitField") return { name, aligned: 1, word: null };
  const word = base?.typeArguments?.[0] && typeOfNode(front, base.typeArguments[0]);
  if (word?.kind !== "int" || word.signed || word.enum || word.domain) throw refuse.bitField(front.loc(base!), "its word has to be u8, u16, u32 or u64");
  return { name, aligned: 1, word };
}

function alignmentOf(front: Front, base: ts.ExpressionWithTypeArguments): number {
  const bytes = base.typeArguments?.[0] ? typeConstant(front, base.typeArguments[0]) : null;
  if (bytes === null || bytes < 1 || (bytes & (bytes - 1)) !== 0) throw refuse.alignment(front.loc(base));
  return bytes;
}

/** A plain property with a type; null for a stray semicolon. */
function propertyOf(front: Front, member: ts.ClassElement): { name: string; type: ts.TypeNode } | null {
  if (ts.isSemicolonClassElement(member)) return null;
  const plain = ts.isPropertyDeclaration(member) && ts.isIdentifier(member.name) && !member.initializer && !member.questionToken
    && !hasModifier(member, ts.SyntaxKind.StaticKeyword) && !hasModifier(member, ts.SyntaxKind.PrivateKeyword);
  if (!plain) throw refuse.structMember(front.loc(member));
  if (!member.type) throw refuse.needsAnnotation(front.loc(member), "a field", `${member.name.getText()}: u32;`);
  return { name: (member.name as ts.Identifier).text, type: member.type };
}

function addField(front: Front, struct: StructType, member: ts.ClassElement): void {
  const found = propertyOf(front, member);
  if (!found) return;
  const type = storageType(front, found.type);
  if (struct.union && holdsReference(type)) throw refuse.unionReference(front.loc(member));
  struct.fields.push({ name: found.name, type, offset: 0, loc: front.loc(member) });
}

/** `name: Bit<N>` or `name: BitRange<High, Low, T>`. */
function addBitField(front: Front, struct: StructType, word: IntType, member: ts.ClassElement): void {
  const found = propertyOf(front, member);
  if (!found) return;
  const loc = front.loc(found.type);
  const node = found.type;
  const [first, second, third] = ts.isTypeReferenceNode(node) ? (node.typeArguments ?? []) : [];
  const kind = ts.isTypeReferenceNode(node) ? node.typeName.getText() : "";
  const high = first ? typeConstant(front, first) : null;
  if (high === null || (kind !== "Bit" && kind !== "BitRange")) throw refuse.bitField(loc, "a bit field is Bit<N> or BitRange<High, Low, T>");
  const low = kind === "Bit" ? high : second ? typeConstant(front, second) : null;
  if (low === null || low < 0 || low > high || high >= word.bits) throw refuse.bitField(loc, `bits ${high} to ${low} are not in a word of ${word.bits}`);
  const width = high - low + 1;
  const mask = (one: { low: number; width: number }): bigint => ((1n << BigInt(one.width)) - 1n) << BigInt(one.low);
  for (const [name, other] of struct.bitFields) {
    if (mask(other) & mask({ low, width })) throw refuse.bitField(loc, `these bits overlap ${name}`);
  }
  const type = kind === "Bit" ? BOOL : third && typeOfNode(front, third);
  const fitting = type?.kind === "bool" || (type?.kind === "int" && !type.signed && width <= type.bits && type.bits <= word.bits);
  if (!type || !fitting) throw refuse.bitField(loc, `${width} bits do not fit ${type ? typeName(type) : "that"}`);
  struct.bitFields.set(found.name, { type: type as IntType, low, width });
}
