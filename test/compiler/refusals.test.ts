import path from "node:path";
import { describe, expect, test } from "vitest";
import { compile } from "../../compiler/compile.ts";
import { describe as place } from "../../compiler/source.ts";
import { report } from "../../compiler/report.ts";

/** Compiles a module in which ▸ marks where the errors have to be. */
function refusals(marked: string): { found: string[]; expected: string[]; text: string } {
  const file = path.resolve("snippet.ts");
  const source = marked.replaceAll("▸", "");
  const { errors } = compile({ entries: [file], overlay: new Map([[file, source]]) }, "exports");
  const lines = marked.split("\n");
  const expected = lines.flatMap((line, i) => [...line.matchAll(/▸/g)].map((match, before) => `snippet.ts:${i + 1}:${match.index - before + 1}`));
  return {
    found: errors.map((error) => `${place(error.loc)} ${error.code}`),
    expected,
    text: errors.map(report).join("\n\n"),
  };
}

/** The body of a function with a few things to work on. */
function body(statements: string): string {
  return `class Pair extends Struct { a: u32; b: u32; }
class Node extends Struct { value: u64; next: Node | null; }
enum Kind { A, B, C }
const list: FixedArray<u32, 8> = zeroed();
const TABLE: FixedArray<u32, 2> = [1, 2];
let head: Node | null = null;
let node: u32 = 0;
export function g(p: Pair): u32 { return p.a + list[0] + TABLE[0] + node; }
export function f(u: u32, b: u8, w: u64, s: i32, flag: boolean, pair: Pair, text: string, kind: Kind, hp: HostPhysical, gp: GuestPhysical): void {
  ${statements}
}`;
}

const IN_FUNCTIONS: [code: string, what: string, statements: string][] = [
  ["US1001", "for…of with a variable that changes", "for (▸let x of list) { g(pair); }"],
  ["US2002", "for…of over a struct", "for (const x of ▸pair) { g(pair); }"],
  ["US1038", "for…in", "▸for (const x in pair) { g(pair); }"],
  ["US1002", "destructuring", "const ▸{ a } = pair;"],
  ["US1003", "spread", "g(▸...list);"],
  ["US1004", "a template string", "const t: string = ▸`x`;"],
  ["US1005", "an object literal for a struct", "const t: Pair = ▸{ a: 1, b: 2 };"],
  ["US5001", "an object literal without a type", "const ▸t = { a: 1, b: 2 };"],
  ["US1039", "an object type without a name", "const t: ▸{ a: u32 } = { a: 1 };"],
  ["US1006", "an arrow function", "const t = ▸() => 1;"],
  ["US1008", "try", "▸try { g(pair); } catch { g(pair); }"],
  ["US1008", "throw", "▸throw pair;"],
  ["US1009", "new", "const t = ▸new Pair();"],
  ["US1010", "typeof", "const t = ▸typeof u;"],
  ["US1011", "optional chaining", "const t = ▸head?.value;"],
  ["US1011", "??", "const t = head ▸?? null;"],
  ["US1012", "**", "const t = u ▸** 2;"],
  ["US1013", "==", "if (u ▸== 1) g(pair);"],
  ["US1014", ">>>", "const t = u ▸>>> 1;"],
  ["US1015", "a label", "▸outer: while (flag) { break outer; }"],
  ["US1016", "var", "▸var t: u32 = 1;"],
  ["US1017", "an array literal", "const t: FixedArray<u32, 2> = ▸[1, 2];"],
  ["US1018", "!", "const t = ▸head!.value;"],
  ["US1019", "an assignment in an expression", "const t: u32 = (▸u = 1);"],
  ["US1019", "++ in an expression", "list[▸u++] = 1;"],
  ["US1020", "the comma operator", "const t: u32 = (u▸, 1);"],
  ["US1021", "await", "▸await g(pair);"],
  ["US1022", "any", "const t: ▸any = u;"],
  ["US1026", "a union", "const t: ▸u32 | u64 = u;"],
  ["US1027", "a fraction", "const t: u32 = ▸1.5;"],
  ["US1028", "undefined", "const t = ▸undefined;"],
  ["US1029", "this", "const t = ▸this;"],
  ["US1030", "as", "const t = ▸b as u32;"],
  ["US1030", "as const", "const t = ▸1 as const;"],
  ["US1031", "a regular expression", "const t = ▸/x/;"],
  ["US1031", "a method of one", "const t = ▸/x/.test(text);"],
  ["US1000", "delete", "▸delete pair.a;"],
  ["TS2584", "a browser's library", "▸console.log(text);"],
  ["US1033", "a declaration in a case", "switch (u) { case 1: ▸const t = u; g(pair); break; }"],
  ["US1035", "a nested function", "▸function h(): void {}"],
  ["US1036", "joining strings", "const t: string = ▸text + text;"],
  ["US1036", "a string's length", "const t = ▸text.length;"],
  ["US2001", "u8 + u32", "const t = ▸u + b;"],
  ["US2001", "u8 < u32", "if (▸b < u) g(pair);"],
  ["US2001", "u32 & i32", "const t = ▸u & s;"],
  ["US2002", "u8 = u32 + u32", "b = ▸u + u;"],
  ["US2002", "u32 = u8 + u8", "u = ▸b + b;"],
  ["US2002", "a flavour that was inferred", "const t = u + 1; b = ▸t;"],
  ["US2002", "a number as an enum", "kind = ▸u;"],
  ["US2002", "a struct of the same shape", "const q = at<Node>(0x1000n); g(▸q);"],
  ["US2003", "a literal that does not fit", "b = ▸256;"],
  ["US2003", "a negative literal", "u = ▸-1;"],
  ["US2003", "a literal operand", "const t = b + ▸300;"],
  ["US2004", "let without a type", "let ▸t = 5;"],
  ["US2005", "boolean + boolean", "const t = ▸flag + flag;"],
  ["US2006", "truthiness", "if (▸u) g(pair);"],
  ["US2006", "a pointer as condition", "while (▸head) g(pair);"],
  ["US2006", "! on a number", "const t = !▸u;"],
  ["US2007", "number", "let t: ▸number = 5;"],
  ["US2008", "a shift by the width", "const t = u << ▸32;"],
  ["US2009", "division by a zero constant", "const t = u / ▸0;"],
  ["US2010", "a conversion that always fails", "b = ▸u8(300);"],
  ["US2011", "a u64 index", "u = list[▸w];"],
  ["US2012", "a constant index outside", "u = list[▸8];"],
  ["US2025", "a constant range outside", "const t = ▸sliceOf(list, 4, 9);"],
  ["US2002", "an array as a slice", "const t: Slice<u32> = ▸list;"],
  ["US2002", "a slice of another element type", "const t: Slice<u8> = ▸sliceOf(list);"],
  ["US2021", "a negative range", "const t = sliceOf(list, ▸1n);"],
  ["US2013", "comparing unlike things", "if (▸pair === list) g(pair);"],
  ["US2013", "comparing addresses of two kinds", "if (▸hp === gp) g(pair);"],
  ["US2014", "an address of another kind", "hp = ▸gp;"],
  ["US2018", "a nullable number", "const t: ▸u32 | null = null;"],
  ["US2019", "what may be null", "const t = ▸head.value;"],
  ["US2020", "constants to choose from, without a type", "const t = ▸flag ? 1 : 2;"],
  ["US2021", "a bigint literal for a u32", "u = ▸1n;"],
  ["US2021", "a number literal beside a u64", "const t = w + ▸1;"],
  ["US3004", "assigning a struct", "▸list = list;"],
  ["US3007", "writing to a constant table", "▸TABLE[0] = 1;"],
  ["US5003", "calling what is no function", "▸pair.a();"],
  ["US5004", "a function as a value", "const t = ▸g;"],
  ["US5005", "zeroed() as a value", "g(▸zeroed());"],
  ["US5005", "at<u32>", "const t = ▸at<u32>(w);"],
  ["US5006", "the address of a value", "const t = addressOf(▸u + 1);"],
  ["US5007", "a value that is not used", "▸u + 1;"],
  ["US5010", "assert in an expression", "const t = ▸assert(flag);"],
  ["US5020", "a case label that is not constant", "switch (u) { case ▸u: break; }"],
  ["US5021", "a case twice", "switch (u) { case 1: break; case ▸1: break; }"],
  ["US5022", "a switch that leaves out a member", "switch (▸kind) { case Kind.A: break; case Kind.B: break; }"],
  ["US5023", "falling through", "switch (u) { ▸case 1: g(pair); case 2: break; }"],
];

const AT_MODULE_LEVEL: [code: string, what: string, source: string][] = [
  ["US1007", "a class that is no struct", "class ▸C { x: u32; }"],
  ["US1025", "an interface with methods as a type", "interface I { f(): u32 }\nexport function g(x: ▸I): u32 { return 1; }"],
  ["US1026", "a union type", "type T = ▸u32 | u64;"],
  ["US1006", "a construct in a generic that nobody uses", "export function f<T extends number>(x: T): void { const g = ▸() => 1; }"],
  ["US2002", "a generic's body for the types that it is used with", "function f<T extends number>(a: T): u8 { return ▸a; }\nexport function g(a: u8, b: u32): u8 { return f(a) + f(b); }"],
  ["US2015", "a type parameter that is a number as a type", "class B<N extends number> extends Struct { x: ▸N; }\nexport function f(b: B<4>): void {}"],
  ["US2022", "type arguments of what has none", "class B extends Struct { x: u32; }\nexport function f(b: ▸B<u32>): void {}"],
  ["US2023", "a type argument that nothing tells", "function f<T>(x: u32): u32 { return x; }\nexport function g(): u32 { return ▸f(1); }"],
  ["US2023", "a type argument of a constant", "function f<T extends number>(x: T): T { return x; }\nexport function g(): u32 { return ▸f(1); }"],
  ["US2024", "a struct that asks for itself with other types", "class L<T> extends Struct { x: T; next: ▸L<FixedArray<T, 2>> | null; }\nexport function f(l: L<u32>): void {}"],
  ["US2024", "a function that asks for itself with other types", "function f<T>(list: Slice<T>): u32 { const a: FixedArray<Slice<T>, 2> = zeroed(); return ▸f(sliceOf(a)); }\nexport function g(l: Slice<u8>): u32 { return f(l); }"],
  ["US6001", "a generic that calls itself", "function ▸f<T>(list: Slice<T>): u32 { return f(list); }\nexport function g(l: Slice<u8>): u32 { return f(l); }"],
  ["US5015", "a generic entry that nobody calls", "/** @entry */\nexport function ▸f<T>(x: T): void {}"],
  ["US5015", "a generic entry", "/** @entry */\nexport function ▸f<T extends number>(x: T): void {}\nexport function g(): void { f<u32>(1); }"],
  ["US3012", "an optional field of a record", "type R = { ▸a?: u32 };"],
  ["US3012", "an empty record", "type R = ▸{};"],
  ["US3019", "a record in two parts", "interface J { b: u32 }\ninterface ▸I extends J { a: u32 }"],
  ["US3003", "a name for itself", "type ▸R = R;\nexport function f(r: R): void {}"],
  ["US5005", "a statement of the core library without its arguments", "export function f(): void { ▸assert(); ▸ignore(); ▸fillBytes(1n, 2); }\n▸assertStatic();"],
  ["US5005", "a core function without its arguments", "export function f(): Slice<u8> { return ▸sliceOf(); }"],
  ["US3013", "variants that nothing tells apart", "type R = { a: u32 } | ▸{ b: u32 };"],
  ["US3013", "a tag that is text", 'type R = { kind: ▸"a"; a: u32 } | { kind: "b"; b: u32 };'],
  ["US3013", "two variants with one tag", "type R = { ok: true; a: u32 } | ▸{ ok: true; b: u32 };"],
  ["US3013", "a tag that is not known", "type R = { ok: true; a: u32 } | { ok: false };\nexport function f(x: boolean): R { return x ? { ok: true, a: 1 } : { ok: ▸x }; }"],
  ["US3014", "a record without all fields", "type R = { a: u32; b: u32 };\nexport function f(): R { return ▸{ a: 1 }; }"],
  ["US3015", "a record that is changed", "type R = { a: u32; b: u32 };\nexport function f(r: R): void { ▸r.a = 1; }"],
  ["US3015", "the address of a record's field", "type R = { a: u32; b: u32 };\nexport function f(r: R): u64 { return addressOf(▸r.a); }"],
  ["US5006", "the address of a record", "type R = { a: u32; b: u32 };\nexport function f(r: R): u64 { return addressOf(▸r); }"],
  ["US3016", "storage of a record that zeroes are not", "enum K { A = 1, B }\ntype R = { k: K.A; a: u32 } | { k: K.B };\nclass S extends Struct { r: ▸R; }"],
  ["US3016", "storage of a record that would hold null", "class S extends Struct { a: u32; }\ntype R = { s: S };\nconst r: ▸R = zeroed();"],
  ["US3017", "a field that another variant has", "type R = { ok: true; a: u32 } | { ok: false };\nexport function f(r: R): u32 { return ▸r.a; }"],
  ["TS2339", "a field after the other variant was found", "type R = { ok: true; a: u32 } | { ok: false };\nexport function f(r: R): u32 { if (r.ok) return 1; return r.▸a; }"],
  ["US5005", "an index of a slice that a call gives", "declare function f(): Slice<u8>;\nexport function g(): u8 { return ▸f()[0]; }"],
  ["US3017", "a field that all variants have, with two types", "type R = { ok: true; a: u32 } | { ok: false; a: u8 };\nexport function f(r: R): u32 { return u32(▸r.a); }"],
  ["US2017", "a Result of nothing", "declare function f(): ▸Result<void, u32>;"],
  ["US3018", "a narrowing that a call may undo", "type R = { ok: true; a: u32 } | { ok: false };\nclass S extends Struct { r: R; }\nexport function f(s: S): u32 { return s.r.ok ? ▸s.r.a : 0; }"],
  ["US5022", "a switch that leaves out a variant", "enum K { A, B, C }\ntype R = { k: K.A } | { k: K.B; b: u32 };\nexport function f(r: R): u32 { switch (▸r.k) { case K.A: return 0; } return 1; }"],
  ["US2013", "comparing records", "type R = { a: u32 };\nexport function f(r: R, s: R): boolean { return ▸r === s; }"],
  ["US1003", "a record from another by spread", "type R = { a: u32; b: u32 };\nexport function f(r: R): R { return { ▸...r, a: 1 }; }"],
  ["US5013", "a Result that is dropped", "declare function f(): Result<u32, u32>;\nexport function g(): void { ▸f(); }"],
  ["US5013", "a Result that is kept and never looked at", "declare function f(): Result<u32, u32>;\nexport function g(): void { const ▸r = f(); }"],
  ["US2002", "a Result used as its value", "declare function f(): Result<u32, u32>;\nexport function g(): u32 { return ▸f(); }"],
  ["US3003", "a length that is itself", "type ▸N = N;\nconst a: FixedArray<u8, N> = zeroed();"],
  ["US3003", "a record in itself", "enum K { A, B }\ntype ▸R = { k: K.A } | { k: K.B; r: R };"],
  ["US6002", "a record that holds local storage", "class S extends Struct { a: u32; }\ntype R = { s: S };\nexport function f(): R { const s: S = zeroed(); const r: R = { s }; ▸return r; }"],
  ["US6002", "a slice of local storage", "export function f(): Slice<u8> { const a: FixedArray<u8, 4> = zeroed(); ▸return sliceOf(a, 1); }"],
  ["US6003", "writing to a constant table by a slice", "const T: FixedArray<u32, 2> = [1, 2];\nexport function f(): void { const s = sliceOf(T); ▸s[0] = 1; }"],
  ["US6003", "writing to a constant table that a function gives", "const T: FixedArray<u32, 2> = [1, 2];\nfunction t(): FixedArray<u32, 2> { return T; }\nexport function f(): void { const s = t(); ▸s[0] = 1; }"],
  ["US4012", "a table that something else fills", "export function f(x: u32): void {}\nconst T: FixedArray<u32, 2> = filled(▸f);"],
  ["US4013", "a table of a variable", "let n: u32 = 1;\nfunction f(t: FixedArray<u32, 2>): void { ▸t[0] = n; }\nconst T: FixedArray<u32, 2> = filled(f);\nexport function g(): u32 { return T[0]; }"],
  ["US4013", "a table of the machine", "declare function ▸read(): u32;\nfunction f(t: FixedArray<u32, 2>): void { t[0] = read(); }\nconst T: FixedArray<u32, 2> = filled(f);\nexport function g(): u32 { return T[0]; }"],
  ["US4013", "a table of addresses", "let n: u32 = 1;\nfunction f(t: FixedArray<u64, 2>): void { ▸t[0] = addressOf(t); }\nconst T: FixedArray<u64, 2> = filled(f);\nexport function g(): u64 { return T[0]; }"],
  ["US4013", "tables of each other", "function f(t: FixedArray<u32, 2>): void { t[0] = U[0]; }\nfunction g(t: FixedArray<u32, 2>): void { t[0] = T[0]; }\nconst ▸T: FixedArray<u32, 2> = filled(f);\nconst ▸U: FixedArray<u32, 2> = filled(g);"],
  ["US4014", "a table whose function traps", "function f(t: FixedArray<u8, 2>): void { for (let i: u32 = 0; i < 3; i++) t[i] = 1; }\nconst ▸T: FixedArray<u8, 2> = filled(f);"],
  ["US5005", "filled() in a function", "function f(t: FixedArray<u8, 2>): void {}\nexport function g(): void { const t: FixedArray<u8, 2> = ▸filled(f); }"],
  ["US1034", "a namespace", "▸namespace N { export const x = 1; }"],
  ["US1037", "an ambient variable", "declare const ▸x: u32;"],
  ["US2007", "bigint as a type", "export function f(x: ▸bigint): void {}"],
  ["US2016", "an array of length 0", "const a: FixedArray<u32, ▸0> = zeroed();"],
  ["US2017", "a string field", "class S extends Struct { x: ▸string; }"],
  ["US3001", "padding between fields", "class S extends Struct { a: u8; ▸b: u32; }"],
  ["US3001", "padding at the end", "class ▸S extends Struct { a: u32; b: u8; }"],
  ["US3002", "a getter", "class S extends Struct { a: u32; ▸get f(): u32 { return 1; } }"],
  ["US5014", "a static method", "class S extends Struct { a: u32; static ▸f(): u32 { return 1; } }"],
  ["US1023", "a generic method", "class S extends Struct { a: u32; f<▸T>(x: T): void {} }"],
  ["US5001", "a method without result type", "class S extends Struct { a: u32; ▸f() {} }"],
  ["US5004", "a method as a value", "class S extends Struct { a: u32; f(): u32 { return this.a; } }\nexport function g(s: S): void { const t = ▸s.f; }"],
  ["US6001", "methods that call each other", "class S extends Struct { a: u32; ▸f(): u32 { return this.g(); } g(): u32 { return this.f(); } }\nexport function h(s: S): u32 { return s.f(); }"],
  ["US6002", "a method that keeps local storage", "class S extends Struct { n: S | null; keep(s: S): void { s.n = this; } }\nexport function f(p: S): void { const s: S = zeroed(); ▸s.keep(p); }"],
  ["US3009", "bits outside the word", "class S extends BitField<u8> { a: ▸Bit<8>; }"],
  ["US3009", "bits that overlap", "class S extends BitField<u32> { a: BitRange<7, 4, u8>; b: ▸Bit<4>; }"],
  ["US3009", "bits that their type cannot hold", "class S extends BitField<u32> { a: ▸BitRange<11, 0, u8>; }"],
  ["US3009", "a plain field among bits", "class S extends BitField<u32> { a: ▸u32; }"],
  ["US3009", "a signed word", "class S extends ▸BitField<i32> { a: Bit<0>; }"],
  ["US4010", "an alignment that is no power of two", "class S extends ▸Aligned<48> { a: u64; }"],
  ["US3001", "padding to an alignment", "class ▸S extends Aligned<64> { a: u64; }"],
  ["US2014", "a newtype as another", 'type A = Newtype<u64, "A">;\ntype B = Newtype<u64, "B">;\nexport function f(a: A): B { return ▸a; }'],
  ["US2013", "comparing newtypes", 'type A = Newtype<u32, "A">;\ntype B = Newtype<u32, "B">;\nexport function f(a: A, b: B): boolean { return ▸a === b; }'],
  ["US2015", "a newtype of a newtype", 'type A = ▸Newtype<HostPhysical, "A">;'],
  ["TS2454", "a variable that is read before it has a value", "export function f(x: boolean): u32 { let y: u32; if (x) y = 1; return ▸y; }"],
  ["US3010", "a reference in a union", "class S extends Struct { a: u32; }\nclass U extends Union { x: u64; ▸s: S | null; }"],
  ["US3011", "the address of a bit", "class S extends BitField<u32> { a: Bit<0>; }\nexport function f(s: S): u64 { return addressOf(▸s.a); }"],
  ["US2003", "a constant that its bits cannot hold", "class S extends BitField<u32> { a: BitRange<2, 0, u8>; }\nexport function f(s: S): void { ▸s.a = 8; }"],
  ["US5013", "a result that must be used", "/** @mustUse */\nenum R { OK, BAD }\nlet n: u32 = 0;\nfunction f(): R { n++; return R.OK; }\nexport function g(): void { ▸f(); }"],
  ["US2001", "checked addition of two widths", "export function f(a: u8, b: u32): u32 { return ▸checkedAdd(a, b); }"],
  ["US3002", "an initial value", "class S extends Struct { ▸a: u32 = 1; }"],
  ["US3003", "a struct in itself", "class ▸S extends Struct { a: S; }"],
  ["US3005", "a wrong size", "class S extends Struct { a: u32; }\nassertLayout<S>(▸8);"],
  ["US3005", "a wrong offset", "class S extends Struct { a: u32; b: u32; }\nassertLayout<S>(8, { ▸b: 0 });"],
  ["US3006", "a false assertion", "▸assertStatic(1 + 1 === 3);"],
  ["US4002", "a statement", "let x: u32 = 0;\n▸x = 1;"],
  ["US4002", "an if", "▸if (1 === 1) {}"],
  ["US4003", "a constant that is none", "let x: u32 = 1;\nconst Y = ▸x + 1;"],
  ["US4004", "a constant defined by itself", "const ▸X: u32 = Y;\nconst Y: u32 = X;"],
  ["US4005", "a package", 'import { x } from ▸"fs";'],
  ["US4006", "a default export", "▸export default 1;"],
  ["US4007", "a static without type", "let ▸x = 5;"],
  ["US4008", "a static that nothing initialises", "let ▸x: u32;"],
  ["US4008", "a reference that can be reassigned", "class S extends Struct { a: u32; }\nlet ▸s: S = zeroed();"],
  ["US4009", "a table of another length", "const T: FixedArray<u32, 3> = ▸[1, 2];"],
  ["US2003", "a table entry that does not fit", "const T: FixedArray<u8, 2> = [1, ▸256];"],
  ["US4010", "a strange alignment", "const T: FixedArray<u8, 2> = zeroed(▸3);"],
  ["US1029", "a parameter that is this", "export function f(▸this: u32): void {}"],
  ["US4016", "an enum in parts", "enum ▸E { A }\nenum ▸E { B = 1 }"],
  ["US4003", "a constant of a function as a length", "export function f(): u32 { const N = 4; const a: FixedArray<u32, typeof ▸N> = zeroed(); return a[0]; }"],
  ["US4003", "a constant of a function as an alignment", "export function f(): u8 { const N = 4; const a: FixedArray<u8, 4> = zeroed(▸N); return a[0]; }"],
  ["US4011", "a string enum", 'enum E { ▸A = "x" }'],
  ["US5001", "a result without type", "export function ▸f() {}"],
  ["US5001", "a parameter without type", "export function f(▸x): void {}"],
  ["US5002", "a default parameter", "export function f(▸x: u32 = 1): void {}"],
  ["US5002", "a rest parameter", "export function f(▸...x: u32[]): void {}"],
  ["US5009", "a function without body", "export function ▸f(): void;"],
  ["US5011", "an onTrap of another form", "export function ▸onTrap(): void {}"],
  ["US1021", "an async function", "export async function ▸f(): void {}"],
  ["US1021", "a generator", "export function* ▸f(): void {}"],
  ["US6001", "recursion", "export function ▸f(n: u32): u32 { return n === 0 ? 0 : g(n - 1); }\nfunction g(n: u32): u32 { return f(n); }"],
  ["US6002", "returning local storage", "class S extends Struct { a: u32; }\nexport function f(): S { const s: S = zeroed(); const t = s; ▸return t; }"],
  ["US6002", "keeping local storage", "class S extends Struct { n: S | null; }\nexport function f(p: S): void { const s: S = zeroed(); ▸p.n = s; }"],
  ["US6002", "passing local storage to what keeps it", "class S extends Struct { n: S | null; }\nlet kept: S | null = null;\nfunction same(s: S): S { return s; }\nfunction keep(s: S): void { kept = s; }\nexport function f(): void { const s: S = zeroed(); ▸keep(same(s)); }\nexport function h(): S | null { return kept; }"],
  ["US6003", "passing a constant table to what writes", "const T: FixedArray<u32, 2> = [1, 2];\nfunction set(t: FixedArray<u32, 2>): void { t[0] = 1; }\nexport function f(): void { ▸set(T); }"],
];

describe("refused in functions", () => {
  test.each(IN_FUNCTIONS)("%s %s", (code, _what, statements) => {
    const { found, expected, text } = refusals(body(statements));
    expect(found, text).toEqual(expected.map((one) => `${one} ${code}`));
  });
});

describe("refused at module level", () => {
  test.each(AT_MODULE_LEVEL)("%s %s", (code, _what, source) => {
    const { found, expected, text } = refusals(source);
    expect(found, text).toEqual(expected.map((one) => `${one} ${code}`));
  });
});

test("each mistake is reported once, and what follows from it is not", () => {
  const { found, expected, text } = refusals(`class S extends Struct { a: u8; ▸b: u32; }
const s: S = zeroed();
function f(x: u32): u32 { const y = x ▸** 2; const z = y + 1; return z; }
function g(x: u8, w: u32): void { let total: u32 = 0; total = ▸x; total += w; while (▸total) total--; s.b = total; }`);
  expect(found, text).toEqual(["US3001", "US1012", "US2002", "US2006"].map((code, i) => `${expected[i]} ${code}`));
});
