/**
 * Every refusal of the compiler. Codes are stable; each says what to write instead.
 * US1xxx constructs, US2xxx types and integers, US3xxx structs, US4xxx modules, US5xxx functions, US6xxx whole program.
 */
import type { Loc } from "./source.ts";

export interface Diagnostic {
  readonly code: string;
  readonly message: string;
  readonly instead?: string | undefined;
  readonly loc: Loc;
}

/** Thrown while a statement is lowered; the next statement goes on. */
export class Refusal extends Error {
  constructor(readonly diagnostic: Diagnostic) {
    super(diagnostic.message);
  }
}

function no(code: string, loc: Loc, message: string, instead?: string): Refusal {
  return new Refusal({ code, loc, message, instead });
}

/** Constructs of TypeScript that the dialect does not have: code, name, what to write instead. */
export const CONSTRUCTS = {
  other: ["US1000", "this construct", "see docs/language.md for what exists"],
  forOf: ["US1001", "this form of for…of", "for (const x of list)"],
  forIn: ["US1038", "for…in", "for (const x of list), or the fields by name"],
  destructuring: ["US1002", "destructuring", "one const for each field"],
  spread: ["US1003", "spread", "the elements one by one, or copyBytes"],
  template: ["US1004", "a template string", "a plain string literal, and print the numbers separately"],
  objectLiteral: ["US1005", "an object literal", "a record: type R = { a: u32 }, const r: R = { a: 1 }; or a struct: const s: S = zeroed(); s.field = …"],
  closure: ["US1006", "a function expression", "a function declaration at module level"],
  classMember: ["US1007", "a class other than a struct of plain fields", "class Name extends Struct { field: u32; }, and functions that take the struct"],
  exception: ["US1008", "an exception", "return an error value, or assert(condition)"],
  newExpression: ["US1009", "new", "const s: S = zeroed()"],
  typeOf: ["US1010", "a type test at run time", "an enum field that says which it is"],
  optionalChain: ["US1011", "optional chaining and ??", "if (p !== null) { … }"],
  power: ["US1012", "**", "a multiplication or a shift"],
  looseEquality: ["US1013", "== and !=", "=== or !=="],
  unsignedShift: ["US1014", ">>>", ">> (on an unsigned integer it is logical already)"],
  label: ["US1015", "a label", "a function that returns, or a boolean"],
  varDeclaration: ["US1016", "var", "let or const"],
  arrayLiteral: ["US1017", "an array literal here", "const TABLE: FixedArray<u32, 3> = [1, 2, 3] at module level, or zeroed()"],
  nonNull: ["US1018", "! on a value that may be null", "if (p !== null) { … } or assert(p !== null)"],
  nestedAssignment: ["US1019", "an assignment inside an expression", "a statement of its own"],
  comma: ["US1020", "the comma operator", "two statements"],
  asynchronous: ["US1021", "async, await and generators", "a state machine in a struct"],
  anyType: ["US1022", "any, unknown and object", "the type itself"],
  generic: ["US1023", "a generic method", "a generic class, or a generic function beside the struct"],
  decorator: ["US1024", "a decorator", "a JSDoc tag where one exists (@entry, @asm)"],
  interfaceType: ["US1025", "an interface with methods as a type", "a type parameter: function f<T extends Name>(x: T)"],
  inlineRecord: ["US1039", "an object type without a name", "type Name = { … }, and Name here"],
  unionType: ["US1026", "a union other than T | null and records with a tag", "an enum, T | null for a struct or array, or type Name = { kind: Kind.A; … } | { kind: Kind.B; … }"],
  floatLiteral: ["US1027", "a number that is not an integer", "an integer in the unit that you need"],
  undefinedValue: ["US1028", "undefined", "null for a pointer, a boolean for a flag"],
  thisValue: ["US1029", "this", "a parameter"],
  cast: ["US1030", "a type assertion here", "u32(x) or wrapU32(x) for integers, at<T>(address) for memory, x as SomeEnum"],
  regex: ["US1031", "a regular expression", "compare bytes"],
  withStatement: ["US1032", "this statement", "see docs/language.md for what exists"],
  caseDeclaration: ["US1033", "a declaration directly in a case", "case X: { const y = …; break; }"],
  namespace: ["US1034", "a namespace", "a module: a file of its own"],
  nestedFunction: ["US1035", "a function inside a function", "a function at module level"],
  stringOperation: ["US1036", "an operation on strings", "byteAt(text, index)"],
  ambient: ["US1037", "a declare other than a function", "export declare function name(…): T;"],
} as const satisfies Record<string, readonly [string, string, string]>;

export type Construct = keyof typeof CONSTRUCTS;

/** A name that tsc may know better why it is unknown. */
export const UNKNOWN_NAME = "US5012";

export const CONSEQUENCE = "consequence";

export const refuse = {
  construct(loc: Loc, which: Construct): Refusal {
    const [code, what, instead] = CONSTRUCTS[which];
    const is = /\band\b|^= |^== /.test(what) ? "are" : "is";
    return no(code, loc, `${what} ${is} not in the dialect`, instead);
  },

  // Types and integers
  mixedIntegers: (loc: Loc, op: string, left: string, right: string, instead: string) =>
    no("US2001", loc, `${left} ${op} ${right}: both sides have to have the same integer type`, instead),
  wrongType: (loc: Loc, from: string, to: string, instead?: string) =>
    no("US2002", loc, `${from} where ${to} is needed`, instead),
  literalRange: (loc: Loc, value: bigint, type: string, instead?: string) =>
    no("US2003", loc, `${value} does not fit ${type}`, instead),
  untypedLet: (loc: Loc, name: string) =>
    no("US2004", loc, `${name} has no integer type`, `let ${name}: u32 = … (or the type that you mean)`),
  needsInteger: (loc: Loc, op: string, type: string) =>
    no("US2005", loc, `${op} needs integers, this is ${type}`),
  needsBoolean: (loc: Loc, type: string, instead: string) =>
    no("US2006", loc, `a condition has to be boolean, this is ${type}`, instead),
  bareNumber: (loc: Loc, type: string) =>
    no("US2007", loc, `${type} does not say its width`, type === "bigint" ? "u64 or i64" : "u8, u16, u32, i8, i16 or i32"),
  shiftCount: (loc: Loc, count: bigint, type: string) =>
    no("US2008", loc, `shifting ${type} by ${count} leaves nothing of it`, "a count below the width"),
  constantZeroDivide: (loc: Loc) => no("US2009", loc, "division by zero"),
  conversionRange: (loc: Loc, value: bigint, type: string) =>
    no("US2010", loc, `${value} does not fit ${type}`, `wrap${type[0]!.toUpperCase()}${type.slice(1)}(…) to keep the low bits`),
  indexType: (loc: Loc, type: string) =>
    no("US2011", loc, `an index has to be u8, u16 or u32, this is ${type}`, "u32(index)"),
  indexRange: (loc: Loc, index: bigint, length: number) =>
    no("US2012", loc, `index ${index} is outside the array's ${length} elements`),
  incomparable: (loc: Loc, left: string, right: string) =>
    no("US2013", loc, `${left} and ${right} cannot be compared`),
  domainMix: (loc: Loc, left: string, right: string) =>
    no("US2014", loc, `${left} where ${right} is needed`, "an explicit translation, or u64(x) where that is what you mean"),
  notAType: (loc: Loc, name: string) => no("US2015", loc, `${name} is not a type of the dialect`, "see docs/language.md for the types"),
  arrayLength: (loc: Loc) => no("US2016", loc, "an array's length has to be a positive constant", "FixedArray<u32, 16> or FixedArray<u32, typeof COUNT>"),
  notStorage: (loc: Loc, type: string) => no("US2017", loc, `${type} cannot be stored here`, "an integer, boolean, enum, struct, FixedArray, or T | null for a pointer"),
  nullableTarget: (loc: Loc, type: string) => no("US2018", loc, `${type} cannot be null`, "T | null, where T is a struct or FixedArray"),
  mayBeNull: (loc: Loc) => no("US2019", loc, "this may be null here", "if (p !== null) { … }"),
  literalKind: (loc: Loc, from: string, type: string, instead: string) =>
    no("US2021", loc, `a ${from} constant where ${type} is needed`, instead),
  untypedChoice: (loc: Loc) => no("US2020", loc, "the integer type of this is not known", "const x: u32 = … first"),

  // Structs
  implicitPadding: (loc: Loc, struct: string, bytes: number, where: string) =>
    no("US3001", loc, `${struct} has ${bytes} byte${bytes === 1 ? "" : "s"} of padding ${where}`, `${where === "at the end" ? "add at the end" : `add ${where}`}: ${paddingField(bytes)}`),
  structMember: (loc: Loc) => no("US3002", loc, "a struct has plain fields and methods only: name: type;", "zeroed() and assignments for initial values"),
  recursiveStruct: (loc: Loc, name: string) => no("US3003", loc, `${name} contains itself`, "a pointer: field: T | null"),
  structCopy: (loc: Loc) => no("US3004", loc, "a struct or array cannot be assigned", "copyBytes(addressOf(to), addressOf(from), u64(sizeOf<T>()))"),
  layoutDiffers: (loc: Loc, message: string) => no("US3005", loc, message),
  staticFails: (loc: Loc, text: string) => no("US3006", loc, `assertStatic failed: ${text}`),
  constantTable: (loc: Loc, name: string) => no("US3007", loc, `${name} is a constant table`, "const table: FixedArray<…> = zeroed() for one that changes"),
  bitField: (loc: Loc, why: string) => no("US3009", loc, why, "present: Bit<0>; frame: BitRange<51, 12, u64>;"),
  unionReference: (loc: Loc) => no("US3010", loc, "a union cannot hold a reference", "a HostVirtual, and at<T>(address) where it is used"),
  bitFieldPlace: (loc: Loc) => no("US3011", loc, "a bit field has no address", "the word: addressOf(s.bits), or a read and an assignment"),
  aggregateResult: (loc: Loc) => no("US3008", loc, "only fields and elements of integer, boolean or pointer type can be assigned"),

  // Records
  recordMember: (loc: Loc) => no("US3012", loc, "a record has plain fields only: name: type", "type R = { a: u32; b: u64 }, and { a: 1, b: 2n }"),
  recordParts: (loc: Loc, name: string) => no("US3019", loc, `${name} is a record that is declared in parts`, "one declaration with all fields"),
  recordTag: (loc: Loc, why: string) => no("US3013", loc, why, "one field whose type is an enum member, true or false: { kind: Kind.A; … } | { kind: Kind.B; … }"),
  recordFields: (loc: Loc, type: string, missing: string[]) => no("US3014", loc, `${type} without ${missing.join(", ")}`, "a value for every field"),
  recordChanged: (loc: Loc, type: string) => no("US3015", loc, `${type} is a record; its fields are not assigned and have no address`, "a new one: r = { … }, or a struct"),
  recordStorage: (loc: Loc, type: string, why: string) => no("US3016", loc, `storage begins as zeroes, which are no ${type}: ${why}`, "a variant whose tag is 0, with T | null for references and without strings"),
  notNarrowed: (loc: Loc, type: string, field: string, instead: string) => no("US3017", loc, `not every ${type} has ${field}`, instead),
  narrowedPlace: (loc: Loc, text: string) => no("US3018", loc, `${text} is no local variable: it may have become another variant since`, `const r = ${text.length < 40 ? text : "…"}, and then r`),

  // Generics
  typeArguments: (loc: Loc, name: string, count: number, instead: string) => no("US2022", loc, count === 0 ? `${name} is not generic` : `${name} takes ${count} type argument${count === 1 ? "" : "s"}`, count === 0 ? name : instead),
  notInferred: (loc: Loc, parameter: string, instead: string) => no("US2023", loc, `nothing here says what ${parameter} is`, instead),
  endlessInstances: (loc: Loc, name: string, outer: string[], inner: string[]) =>
    no("US2024", loc, `${name}<${outer.join(", ")}> asks for ${name}<${inner.join(", ")}>, which would go on for ever`, "a declaration that does not use itself with other types"),
  genericEntry: (loc: Loc, name: string) => no("US5015", loc, `${name} is generic: nobody outside can call it`, "a function for one type that calls it"),
  rangeOutside: (loc: Loc, from: bigint, to: bigint, length: bigint) => no("US2025", loc, `${from} to ${to} is no range of ${length} elements`),

  // Modules
  moduleCycle: (loc: Loc, cycle: string[]) => no("US4001", loc, `modules import each other: ${cycle.join(" → ")}`, "move what both need into a third module"),
  moduleStatement: (loc: Loc) => no("US4002", loc, "nothing runs at module level", "a function, called from an @entry function"),
  notConstant: (loc: Loc) => no("US4003", loc, "this is not a constant expression", "constants, enum members, sizeOf, offsetOf, fourCC and operators on them"),
  constantCycle: (loc: Loc, name: string) => no("US4004", loc, `${name} is defined by itself`),
  importPath: (loc: Loc) => no("US4005", loc, "only relative modules, and aliases that tsconfig.json has `paths` for, can be imported", 'import { name } from "./module"'),
  defaultExport: (loc: Loc) => no("US4006", loc, "default exports and imports are not in the dialect", "export function name / import { name }"),
  staticNeedsType: (loc: Loc, name: string) => no("US4007", loc, `${name} needs a type`, `let ${name}: u32 = 0`),
  staticInit: (loc: Loc, name: string) => no("US4008", loc, `${name} cannot start as this`, "a constant, null, a record of constants, zeroed(), or [1, 2, 3] or filled(fill) for a constant table"),
  tableLength: (loc: Loc, found: number, needed: number) => no("US4009", loc, `${found} elements for an array of ${needed}`),
  alignment: (loc: Loc) => no("US4010", loc, "an alignment has to be a constant power of two"),
  fillFunction: (loc: Loc) => no("US4012", loc, "filled takes a function of the program that takes the table and gives nothing", "function fill(table: FixedArray<u32, 256>): void { … }"),
  fillImpure: (loc: Loc, table: string, what: string) =>
    no("US4013", loc, `${table} is computed at compile time, where there is ${what}`, "a function of constants, constant tables and storage of its own"),
  unguarded: (loc: Loc, guard: string) =>
    no("US4015", loc, "Node would run this module as ordinary TypeScript, without wraps and traps", `import "${guard}" at its start, by which Node refuses it`),
  fillFails: (loc: Loc, table: string, what: string) => no("US4014", loc, `${table} cannot be computed: ${what}`),
  enumParts: (loc: Loc, name: string) => no("US4016", loc, `the enum ${name} is declared in parts`, "one declaration with all members"),
  enumMember: (loc: Loc) => no("US4011", loc, "an enum member has to be a constant u32"),

  // Functions
  needsAnnotation: (loc: Loc, what: string, instead: string) => no("US5001", loc, `${what} needs a type`, instead),
  parameterForm: (loc: Loc) => no("US5002", loc, "default, optional and rest parameters are not in the dialect", "a plain parameter, and a second function if you need it"),
  notCallable: (loc: Loc) => no("US5003", loc, "only functions can be called, by name", "a function declaration; switch where you wanted a table of functions"),
  functionValue: (loc: Loc, name: string) => no("US5004", loc, `${name} is a function; functions are not values in the dialect`, `call it: ${name}(…)`),
  builtinUse: (loc: Loc, message: string, instead?: string) => no("US5005", loc, message, instead),
  ignoredResult: (loc: Loc, name: string) => no("US5013", loc, `this ${name} is ignored`, "a comparison or switch on it, or ignore(…)"),
  methodForm: (loc: Loc) => no("US5014", loc, "a method is a plain one: name(x: T): R { … }", "a function beside the struct"),
  notAPlace: (loc: Loc) => no("US5006", loc, "this is not a variable, field or element"),
  discarded: (loc: Loc) => no("US5007", loc, "this computes a value and does nothing with it", "a call or an assignment"),
  overload: (loc: Loc, name: string) => no("US5008", loc, `${name} has more than one declaration`, "a name for each"),
  externBody: (loc: Loc) => no("US5009", loc, "a function without a body has to be declared as external", "export declare function name(…): T;"),
  statementOnly: (loc: Loc, name: string) => no("US5010", loc, `${name} is a statement of its own`),
  trapHandler: (loc: Loc) => no("US5011", loc, "onTrap has to be (site: u32): never", "/** @entry */ export function onTrap(site: u32): never { … }"),
  /** Follows from an error that was reported where the name was declared. */
  consequence: (loc: Loc) => no(CONSEQUENCE, loc, ""),
  unknownName: (loc: Loc, name: string) => no(UNKNOWN_NAME, loc, `${name} is not in the dialect`),

  // Switch
  caseLabel: (loc: Loc) => no("US5020", loc, "a case label has to be a constant"),
  duplicateCase: (loc: Loc, label: string) => no("US5021", loc, `case ${label} stands twice`),
  notExhaustive: (loc: Loc, missing: string[]) => no("US5022", loc, `this switch leaves out ${missing.join(", ")}`, "the missing cases, or default:"),
  fallsThrough: (loc: Loc) => no("US5023", loc, "this case runs into the next one", "break, return or continue at its end"),

  // Whole program
  recursion: (loc: Loc, cycle: string[]) => no("US6001", loc, `recursion: ${cycle.join(" → ")}`, "a loop with state in a struct"),
  escapes: (loc: Loc, what: string) => no("US6002", loc, `${what} outlives the function whose stack it lies on`, "static storage: const s: S = zeroed() at module level"),
  constantWritten: (loc: Loc, name: string) => no("US6003", loc, `the constant table ${name} goes where it could be written`, "a table in zeroed() storage"),
};

function paddingField(bytes: number): string {
  const unit = { 1: "u8", 2: "u16", 4: "u32" }[bytes];
  return unit ? `reserved: ${unit};` : `reserved: FixedArray<u8, ${bytes}>;`;
}
