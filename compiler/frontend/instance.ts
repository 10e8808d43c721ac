/**
 * Generics by monomorphisation: a generic declaration is declared and lowered once for each list of arguments that the
 * program gives it. What is not generic is the one instance without arguments.
 */
import { ts } from "./typescript.cjs";
import { refuse } from "../diagnostics.ts";
import { type EnumDecl, type Func, type RecordType, type SliceType, type StructType, type Type, typeName } from "../ir.ts";
import type { Front } from "./front.ts";
import { isRecordDeclaration } from "./records.ts";
import { typeConstant, typeOfNode } from "./types.ts";

/** A type, or the number that a type such as `8` or `typeof SIZE` stands for. */
export type TypeArgument = Type | { readonly kind: "number"; readonly value: number };

export interface Instance {
  readonly declaration: ts.Node | null;
  readonly args: readonly TypeArgument[];
  /** What the type parameters stand for. */
  readonly meaning: ReadonlyMap<ts.Node, TypeArgument>;
  readonly types: Map<ts.TypeNode, Type>;
  /** The instance that asked for this one. */
  readonly parent: Instance | null;
}

export const ROOT: Instance = { declaration: null, args: [], meaning: new Map(), types: new Map(), parent: null };

export type Generic = ts.ClassDeclaration | ts.TypeAliasDeclaration | ts.InterfaceDeclaration | ts.FunctionDeclaration;

export interface Made<T> { readonly value: T; readonly instance: Instance }

/** What declarations were made into, by their arguments. */
export class Instances {
  readonly structs = new Map<ts.Node, Map<string, Made<StructType>>>();
  readonly records = new Map<ts.Node, Map<string, Made<RecordType>>>();
  readonly funcs = new Map<ts.Node, Map<string, Made<Func>>>();
  readonly slices = new Map<string, SliceType>();
  /** Where structs come from. */
  readonly classes = new Map<StructType, { readonly declaration: ts.ClassDeclaration; readonly instance: Instance }>();
}

/** What was made of a declaration for the arguments, or what `make` makes of it. */
export function instanceOf<T>(
  front: Front, all: Map<ts.Node, Map<string, Made<T>>>, declaration: Generic, args: readonly TypeArgument[], use: ts.Node,
  make: (instance: Instance, keep: (value: T) => void) => void,
): T {
  const key = args.map(keyOf).join(", ");
  const made = all.get(declaration) ?? new Map<string, Made<T>>();
  all.set(declaration, made);
  const known = made.get(key);
  if (known) return known.value;
  const parent = args.length > 0 ? front.instance : null;
  for (let outer = parent; outer; outer = outer.parent) {
    if (outer.declaration === declaration) throw refuse.endlessInstances(front.loc(use), declaration.name?.text ?? "", outer.args.map(argumentName), args.map(argumentName));
  }
  const instance = args.length > 0 ? newInstance(declaration, args, parent) : ROOT;
  let result: T | undefined;
  const keep = (value: T): void => {
    result = value;
    made.set(key, { value, instance });
  };
  try {
    front.within(instance, () => make(instance, keep));
  } catch (error) {
    made.delete(key);
    throw error;
  }
  return result!;
}

export function newInstance(declaration: Generic, args: readonly TypeArgument[], parent: Instance | null): Instance {
  const meaning = new Map<ts.Node, TypeArgument>(declaration.typeParameters?.map((parameter, i) => [parameter, args[i]!]));
  return { declaration, args, meaning, types: new Map(), parent };
}

/** The arguments that a reference to a generic declaration writes out. */
export function argumentsOf(front: Front, declaration: Generic, nodes: readonly ts.TypeNode[] | undefined, use: ts.Node): TypeArgument[] {
  const parameters = declaration.typeParameters ?? [];
  const given = nodes ?? [];
  if (given.length !== parameters.length) {
    const names = parameters.map((parameter) => parameter.name.text).join(", ");
    throw refuse.typeArguments(front.loc(use), declaration.name?.text ?? "", parameters.length, `${declaration.name?.text}<${names}>`);
  }
  return given.map((node) => typeArgument(front, node));
}

export function typeArgument(front: Front, node: ts.TypeNode): TypeArgument {
  const value = typeConstant(front, node);
  return value === null ? typeOfNode(front, node) : { kind: "number", value };
}

/** The arguments of a call that does not write them out: what the parameters' types say of the arguments' types. */
export function inferArguments(front: Front, declaration: ts.FunctionDeclaration, given: readonly (Type | null)[], use: ts.Node): TypeArgument[] {
  const found = new Map<ts.Node, TypeArgument>();
  declaration.parameters.forEach((parameter, i) => {
    const type = given[i];
    if (parameter.type && type) match(front, parameter.type, type, found);
  });
  return (declaration.typeParameters ?? []).map((parameter) => {
    const argument = found.get(parameter);
    if (!argument) throw refuse.notInferred(front.loc(use), parameter.name.text, `${declaration.name?.text}<…>(…)`);
    return argument;
  });
}

function match(front: Front, node: ts.TypeNode, type: TypeArgument, found: Map<ts.Node, TypeArgument>): void {
  if (ts.isUnionTypeNode(node)) {
    const target = type.kind === "ref" ? type.target : type;
    for (const part of node.types) if (!ts.isLiteralTypeNode(part)) match(front, part, target, found);
    return;
  }
  if (!ts.isTypeReferenceNode(node)) return;
  const declaration = front.declarationOf(node.typeName);
  if (!declaration) return;
  if (ts.isTypeParameterDeclaration(declaration)) {
    if (!found.has(declaration)) found.set(declaration, bare(type));
    return;
  }
  // Of another name for a type nobody knows which of its parts the arguments are.
  if (ts.isTypeAliasDeclaration(declaration) && !isRecordDeclaration(front, declaration)) return;
  const written = node.typeArguments ?? [];
  argumentsIn(front, type).forEach((argument, i) => { if (written[i]) match(front, written[i], argument, found); });
}

/** A type argument names what a reference refers to: the parameter's own type makes a reference of it again. */
function bare(type: TypeArgument): TypeArgument {
  return type.kind === "ref" && !type.nullable ? type.target : type;
}

/** The arguments that a type was made with. */
function argumentsIn(front: Front, type: TypeArgument): readonly TypeArgument[] {
  switch (type.kind) {
    case "ref": return argumentsIn(front, type.target);
    case "slice": return [type.element];
    case "array": return [type.element, { kind: "number", value: type.length }];
    case "struct": return madeFrom(front.instances.structs, type);
    case "record": return madeFrom(front.instances.records, type);
    default: return [];
  }
}

function madeFrom<T>(all: Map<ts.Node, Map<string, Made<T>>>, value: T): readonly TypeArgument[] {
  for (const made of all.values()) {
    for (const one of made.values()) if (one.value === value) return one.instance.args;
  }
  return [];
}

const ids = new WeakMap<object, number>();
let lastId = 0;

/** Declared types of one name in two modules are two types. */
function idOf(declared: StructType | RecordType | EnumDecl): string {
  let id = ids.get(declared);
  if (id === undefined) {
    id = ++lastId;
    ids.set(declared, id);
  }
  return `${declared.name}#${id}`;
}

export function keyOf(type: TypeArgument): string {
  switch (type.kind) {
    case "number": return String(type.value);
    case "int": return type.enum ? idOf(type.enum) : typeName(type);
    case "struct":
    case "record":
      return idOf(type);
    case "array": return `[${keyOf(type.element)}; ${type.length}]`;
    case "ref": return `&${type.nullable ? "?" : ""}${keyOf(type.target)}`;
    case "slice": return `Slice<${keyOf(type.element)}>`;
    default: return type.kind;
  }
}

export function argumentName(type: TypeArgument): string {
  return type.kind === "number" ? String(type.value) : typeName(type);
}

/** `Ring<u32, 8>` */
export function instanceName(name: string, args: readonly TypeArgument[]): string {
  return args.length === 0 ? name : `${name}<${args.map(argumentName).join(", ")}>`;
}

export function sliceType(front: Front, element: Type): SliceType {
  const key = keyOf(element);
  const known = front.instances.slices.get(key);
  if (known) return known;
  const type: SliceType = { kind: "slice", element, cName: "" };
  front.instances.slices.set(key, type);
  return type;
}

/** Whether a type is a type parameter. */
export function isParameter(front: Front, node: ts.TypeNode): boolean {
  const declaration = ts.isTypeReferenceNode(node) ? front.declarationOf(node.typeName) : undefined;
  return declaration !== undefined && ts.isTypeParameterDeclaration(declaration);
}

