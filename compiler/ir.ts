/**
 * The typed intermediate representation. Everything that a back end must not decide is explicit here:
 * widths, conversions, shift masks, checks with their trap sites, evaluation order. Back ends only print it.
 */
import type { Loc } from "./source.ts";

// ---- Types

export interface IntType {
  readonly kind: "int";
  readonly bits: 8 | 16 | 32 | 64;
  readonly signed: boolean;
  /** A newtype: only a check, the plain integer in the output. */
  readonly domain?: string;
  readonly enum?: EnumDecl;
  /** Expected by a conversion, which takes any other type as well. */
  readonly weak?: true;
}
export interface BoolType { readonly kind: "bool" }
export interface StringType { readonly kind: "string" }
export interface VoidType { readonly kind: "void" }
export interface NeverType { readonly kind: "never" }
/** A constant that has not met a type yet: exact, any size. Never reaches a back end. */
export interface LiteralType {
  readonly kind: "literal";
  readonly js: "number" | "bigint";
  /** Made with `~`: a negative value stands for its bits in an unsigned type. */
  readonly complement: boolean;
}
export interface ArrayType { readonly kind: "array"; readonly element: Type; readonly length: number }
/** A pointer to a struct or array. */
export interface RefType { readonly kind: "ref"; readonly target: StructType | ArrayType; readonly nullable: boolean }
export interface StructType {
  readonly kind: "struct";
  readonly name: string;
  cName: string;
  readonly packed: boolean;
  /** Least alignment, as its class asks for; 1 if it does not. */
  readonly aligned: number;
  /** All fields lie at its start. */
  readonly union: boolean;
  readonly asm: boolean;
  readonly loc: Loc;
  fields: Field[];
  /** Parts of its one field `bits`. */
  readonly bitFields: Map<string, BitField>;
  /** By name; each is a function with the struct as its first parameter. */
  readonly methods: Map<string, Func>;
  /** Made of a generic class: left out where nothing uses it. */
  readonly instance: boolean;
  size: number;
  align: number;
}
export interface Field { readonly name: string; readonly type: Type; offset: number; readonly loc: Loc }
/** Some bits of a word; one bit is a boolean. */
export interface BitField { readonly type: IntType | BoolType; readonly low: number; readonly width: number }
/** `mustUse`: a result of this type may not be ignored. */
export interface EnumDecl { readonly name: string; readonly members: Map<string, bigint>; readonly mustUse: boolean }

/**
 * A value of several parts that is never changed in place: fields, or a tag and the fields of the variant that it names.
 * It is copied; since nobody can change it, no one can tell that from a reference.
 */
export interface RecordType {
  readonly kind: "record";
  readonly name: string;
  cName: string;
  readonly loc: Loc;
  tag: RecordField | null;
  variants: Variant[];
  /** A result of this type may not be ignored. */
  readonly mustUse: boolean;
  size: number;
  align: number;
}
export interface RecordField { readonly name: string; readonly type: Type; offset: number }
export interface Variant {
  /** What the tag is; 0 where there is none. */
  readonly value: bigint;
  /** The tag as the source calls it. */
  readonly label: string;
  readonly fields: RecordField[];
  /** The member that holds the fields in C; null if they stand in the struct, or the union, itself. */
  member: string | null;
}
/** Where elements lie and how many. */
export interface SliceType { readonly kind: "slice"; readonly element: Type; cName: string }

export type Type =
  | IntType | BoolType | StringType | VoidType | NeverType | LiteralType | ArrayType | RefType | StructType
  | RecordType | SliceType;

export const BOOL: BoolType = { kind: "bool" };
export const STRING: StringType = { kind: "string" };
export const VOID: VoidType = { kind: "void" };
export const NEVER: NeverType = { kind: "never" };
export const INTS = {
  u8: { kind: "int", bits: 8, signed: false },
  u16: { kind: "int", bits: 16, signed: false },
  u32: { kind: "int", bits: 32, signed: false },
  u64: { kind: "int", bits: 64, signed: false },
  i8: { kind: "int", bits: 8, signed: true },
  i16: { kind: "int", bits: 16, signed: true },
  i32: { kind: "int", bits: 32, signed: true },
  i64: { kind: "int", bits: 64, signed: true },
} as const satisfies Record<string, IntType>;

export const HOST_VIRTUAL: IntType = { ...INTS.u64, domain: "HostVirtual" };

// ---- Declarations

export interface Local {
  readonly name: string;
  /** A struct or array type here means storage on the stack; a reference is a RefType. */
  readonly type: Type;
  readonly param: boolean;
  cName: string;
  align: number;
  /** Its address is taken, so it lives in memory. */
  addressed: boolean;
  reads: number;
  /** Largest value that it can have, if that was proved. */
  max?: bigint | undefined;
  /** The slice that it is below the length of, if that was proved. */
  below?: Local | undefined;
  /** The slice whose length it is. */
  lengthOf?: Local | undefined;
  /** Assigned once, where it is declared. */
  fixed?: boolean;
}

export interface Static {
  readonly name: string;
  cName: string;
  readonly type: Type;
  readonly loc: Loc;
  readonly module: string;
  readonly exported: boolean;
  readonly asm: boolean;
  readonly align: number;
  /** null: zeroes. */
  init: Init | null;
  readonly constant: boolean;
  /** Fills a constant table at compile time. */
  readonly filledBy?: Func | undefined;
}

/** What storage starts as: a scalar, the elements of an array or fields of a struct, the fields of a record's variant. */
export type Init = bigint | readonly Init[] | { readonly variant: Variant; readonly values: readonly Init[] };

export interface Func {
  readonly name: string;
  cName: string;
  readonly module: string;
  readonly loc: Loc;
  /** Where its closing brace stands. */
  readonly end: Loc;
  readonly doc: string;
  readonly exported: boolean;
  /** Called from outside: C linkage, root of reachability. */
  readonly entry: boolean;
  readonly params: Local[];
  readonly result: Type;
  /** Temporaries that keep the order of evaluation. */
  readonly temps: Local[];
  /** null: implemented outside the program. */
  body: Stmt[] | null;
}

/** Where a check may fail. Numbered once it is known which functions are reachable. */
export interface Site { readonly loc: Loc; readonly what: string; id: number }

/** `text`: a literal of JavaScript. */
export interface Exported { readonly path: string; readonly name: string; readonly text: string }

/** A constant that assembly wants to see. */
export interface AsmConst { readonly name: string; readonly value: bigint }

export interface Program {
  structs: StructType[];
  /** Records and slices that are used. */
  values: (RecordType | SliceType)[];
  statics: Static[];
  funcs: Func[];
  /** Constants and enumerations by name, for tests and for assembly. */
  constants: Map<string, bigint>;
  enums: EnumDecl[];
  asmConsts: AsmConst[];
  /** Exported constants and enumerations, as JavaScript has them. */
  exports: Exported[];
  /** Reachable trap sites, in order of their number. */
  sites: Site[];
}

// ---- Expressions

export type ArithmeticOp = "+" | "-" | "*" | "/" | "%" | "&" | "|" | "^";
export type ShiftOp = "<<" | ">>";
export type CompareOp = "==" | "!=" | "<" | "<=" | ">" | ">=";

export type Expr =
  /** Integer or boolean; `name` is how the source called it, `hex` whether it wrote it so. */
  | { readonly kind: "const"; readonly type: Type; readonly value: bigint; readonly name?: string | undefined; readonly hex?: boolean | undefined }
  | { readonly kind: "string"; readonly type: Type; readonly value: string }
  | { readonly kind: "null"; readonly type: Type }
  /** The scalar or pointer in a place. */
  | { readonly kind: "load"; readonly type: Type; readonly place: Place }
  /** A reference to the struct or array in a place. */
  | { readonly kind: "ref"; readonly type: RefType; readonly place: Place }
  /** Known not to be null: checked here if it has a site, else proved. */
  | { readonly kind: "notNull"; readonly type: RefType; readonly value: Expr; readonly site: Site | null }
  /** Both operands and the result have one type; the result wraps, or traps if it has a site; `/` and `%` then trap on zero. */
  | { readonly kind: "binary"; readonly type: IntType; readonly op: ArithmeticOp; readonly left: Expr; readonly right: Expr; readonly site: Site | null }
  /** The count is already below the width. */
  | { readonly kind: "shift"; readonly type: IntType; readonly op: ShiftOp; readonly left: Expr; readonly right: Expr }
  | { readonly kind: "negate" | "complement"; readonly type: IntType; readonly value: Expr }
  | { readonly kind: "compare"; readonly type: BoolType; readonly op: CompareOp; readonly left: Expr; readonly right: Expr }
  | { readonly kind: "logical"; readonly type: BoolType; readonly op: "&&" | "||"; readonly left: Expr; readonly right: Expr }
  | { readonly kind: "not"; readonly type: BoolType; readonly value: Expr }
  | { readonly kind: "conditional"; readonly type: Type; readonly test: Expr; readonly yes: Expr; readonly no: Expr }
  /** From an integer or boolean: keeps the low bits, or traps if it has a site and the value does not fit, or is above the limit. */
  | { readonly kind: "convert"; readonly type: IntType; readonly value: Expr; readonly site: Site | null; readonly limit?: bigint }
  /** `value`, or a trap if it is not below `length`. */
  | { readonly kind: "checkIndex"; readonly type: IntType; readonly value: Expr; readonly length: number | Expr; readonly site: Site }
  /** `from`, or a trap unless from <= to <= length. */
  | { readonly kind: "checkRange"; readonly type: IntType; readonly from: Expr; readonly to: Expr; readonly length: Expr; readonly site: Site }
  /** The values of the variant's fields, in their order. */
  | { readonly kind: "record"; readonly type: RecordType; readonly variant: Variant; readonly values: Expr[] }
  /** A field of a record; `variant` null is the tag. */
  | { readonly kind: "member"; readonly type: Type; readonly value: Expr; readonly variant: Variant | null; readonly field: RecordField }
  /** `length` elements of an array or slice, the first of them the one at `from`. */
  | { readonly kind: "slice"; readonly type: SliceType; readonly base: Expr; readonly from: Expr | null; readonly length: Expr }
  | { readonly kind: "sliceLength"; readonly type: IntType; readonly value: Expr }
  | { readonly kind: "call"; readonly type: Type; readonly func: Func; readonly args: Expr[] }
  /** A function of the runtime. */
  | { readonly kind: "builtin"; readonly type: Type; readonly name: BuiltinName; readonly args: Expr[] }
  | { readonly kind: "atomic"; readonly type: Type; readonly op: AtomicOp; readonly place: Place; readonly value: Expr | null }
  | { readonly kind: "placeAddress"; readonly type: IntType; readonly place: Place }
  | { readonly kind: "refAddress"; readonly type: IntType; readonly value: Expr }
  /** The reference at an address. */
  | { readonly kind: "at"; readonly type: RefType; readonly value: Expr }
  /** First the temporaries, in order, then the value. */
  | { readonly kind: "sequence"; readonly type: Type; readonly temps: Temp[]; readonly value: Expr };

export interface Temp { readonly local: Local; readonly value: Expr }

export type BuiltinName =
  | "load8" | "load16" | "load32" | "load64" | "store8" | "store16" | "store32" | "store64"
  | "copyBytes" | "fillBytes" | "trapText" | "byteAt";
export type AtomicOp = "atomicLoad" | "atomicStore" | "atomicAdd" | "atomicExchange";

export type Place =
  | { readonly kind: "local"; readonly type: Type; readonly local: Local }
  | { readonly kind: "static"; readonly type: Type; readonly static: Static }
  | { readonly kind: "field"; readonly type: Type; readonly base: Expr; readonly field: Field }
  | { readonly kind: "element"; readonly type: Type; readonly base: Expr; readonly index: Expr };

// ---- Statements

export type Stmt =
  /** `init` null: zeroes, for storage and for what is assigned later. */
  | { readonly kind: "let"; readonly loc: Loc; readonly local: Local; readonly init: Expr | null }
  /** First the temporaries, in order. */
  | { readonly kind: "assign"; readonly loc: Loc; readonly temps: Temp[]; readonly place: Place; readonly value: Expr }
  | { readonly kind: "expression"; readonly loc: Loc; readonly value: Expr }
  | { readonly kind: "if"; readonly loc: Loc; readonly test: Expr; readonly yes: Stmt[]; readonly no: Stmt[] | null; readonly noLoc: Loc | null }
  | { readonly kind: "while"; readonly loc: Loc; readonly test: Expr; readonly body: Stmt[] }
  | { readonly kind: "doWhile"; readonly loc: Loc; readonly test: Expr; readonly body: Stmt[] }
  | { readonly kind: "for"; readonly loc: Loc; readonly init: Stmt[]; readonly test: Expr | null; readonly step: Stmt[]; readonly body: Stmt[] }
  | { readonly kind: "switch"; readonly loc: Loc; readonly value: Expr; readonly cases: SwitchCase[] }
  | { readonly kind: "break" | "continue"; readonly loc: Loc }
  | { readonly kind: "return"; readonly loc: Loc; readonly value: Expr | null }
  | { readonly kind: "block"; readonly loc: Loc; readonly body: Stmt[] }
  | { readonly kind: "trap"; readonly loc: Loc; readonly site: Site };

export interface SwitchCase {
  readonly loc: Loc;
  readonly labels: Expr[];
  readonly isDefault: boolean;
  /** Never falls through; a back end ends it with a break. */
  readonly body: Stmt[];
}

// ---- Helpers

export function minOf(type: IntType): bigint {
  return type.signed ? -(1n << BigInt(type.bits - 1)) : 0n;
}

export function maxOf(type: IntType): bigint {
  return (1n << BigInt(type.signed ? type.bits - 1 : type.bits)) - 1n;
}

export function fits(value: bigint, type: IntType): boolean {
  return value >= minOf(type) && value <= maxOf(type);
}

export function wrap(value: bigint, type: IntType): bigint {
  return type.signed ? BigInt.asIntN(type.bits, value) : BigInt.asUintN(type.bits, value);
}

export function isAggregate(type: Type): type is StructType | ArrayType {
  return type.kind === "struct" || type.kind === "array";
}

/** Whether a value of the type is, or holds, a reference. */
export function holdsReference(type: Type): boolean {
  switch (type.kind) {
    case "ref":
    case "slice":
      return true;
    case "array": return holdsReference(type.element);
    case "struct": return type.fields.some((field) => holdsReference(field.type));
    case "record": return type.variants.some((variant) => variant.fields.some((field) => holdsReference(field.type)));
    default: return false;
  }
}

/** Whether a result of the type may not be ignored. */
export function mustUse(type: Type): boolean {
  return type.kind === "record" ? type.mustUse : type.kind === "int" && (type.enum?.mustUse ?? false);
}

export function sameInt(a: IntType, b: IntType): boolean {
  return a.bits === b.bits && a.signed === b.signed;
}

export function sameStorage(a: Type, b: Type): boolean {
  if (a.kind === "array" && b.kind === "array") return a.length === b.length && sameStorage(a.element, b.element);
  if (a.kind === "ref" && b.kind === "ref") return a.nullable === b.nullable && sameStorage(a.target, b.target);
  if (a.kind === "int" && b.kind === "int") return sameInt(a, b) && a.domain === b.domain && a.enum === b.enum;
  if (a.kind === "slice" && b.kind === "slice") return sameStorage(a.element, b.element);
  if (a.kind === "struct" || b.kind === "struct" || a.kind === "record" || b.kind === "record") return a === b;
  return a.kind === b.kind;
}

/** A type as the source writes it. */
export function typeName(type: Type): string {
  switch (type.kind) {
    case "int": return type.enum?.name ?? type.domain ?? `${type.signed ? "i" : "u"}${type.bits}`;
    case "bool": return "boolean";
    case "literal": return "constant";
    case "array": return `FixedArray<${typeName(type.element)}, ${type.length}>`;
    case "ref": return type.nullable ? `${typeName(type.target)} | null` : typeName(type.target);
    case "struct":
    case "record":
      return type.name;
    case "slice": return `Slice<${typeName(type.element)}>`;
    default: return type.kind;
  }
}
