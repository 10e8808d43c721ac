import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { Machine } from "./machine.ts";
import { loadModules, viewOf } from "./vmm.ts";

const loaded = loadModules(new Machine(), ["devices/decode.ts"]);
const { call, memory, enums } = loaded;
const { READ, WRITE, WRITE_IMMEDIATE, EXCHANGE, COMPARE_EXCHANGE } = enums.AccessKind as Record<string, number>;
const BYTES = 0x1000n;
const ACCESS = 0x2000n;

interface Access { kind: number; size: number; registerSize: number; register: number; highByte: number; length: number; immediate: bigint }

function decode(code: Uint8Array, count = code.length): Access | null {
  memory.writeBytes(BYTES, new Uint8Array(16).fill(0xcc));
  memory.writeBytes(BYTES, code.subarray(0, 15));
  if (!call.decodeAccess!(BYTES, Math.min(count, 15), ACCESS)) return null;
  const { kind, size, registerSize, register, highByte, length, immediate } = viewOf(loaded, "Access", ACCESS);
  return { kind, size, registerSize, register, highByte, length, immediate };
}

/** The encodings of instructions, by NASM, each on its own. */
function assemble(lines: string[]): Uint8Array[] {
  const dir = mkdtempSync(join(tmpdir(), "decode-"));
  try {
    const slots = lines.map((line, i) => `case${i}: ${line}\nend${i}: times 31-(end${i}-case${i}) db 0\ndb end${i}-case${i}`);
    writeFileSync(join(dir, "cases.asm"), `bits 64\n${slots.join("\n")}\n`);
    execFileSync("nasm", ["-O0", "-f", "bin", "-o", join(dir, "cases"), join(dir, "cases.asm")]);
    const image = readFileSync(join(dir, "cases"));
    return lines.map((_, i) => Uint8Array.from(image.subarray(32 * i, 32 * i + image[32 * i + 31]!)));
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const PLACES = [
  "[rax]", "[rbx+8]", "[rbx-0x80]", "[rcx+0x12345678]", "[rsp]", "[rsp+8]", "[rsp+0x1000]", "[rbp]", "[rbp+0x70]", "[r12]", "[r12+4]", "[r13]",
  "[rel $+0x100]", "[abs 0x7ee00300]", "[abs 0xffffffffff5fc0b0]", "[rax+rcx*4]", "[rbp+rcx*4]", "[r13+r9*2+1]", "[rbx*8+0x1000]", "[r8+r15*2-3]",
  "[eax]", "[esp+8]", "[fs:rax]", "[gs:0x10+rax]",
];
const NAMES: Record<number, string[]> = {
  1: ["al", "cl", "dl", "bl", "spl", "bpl", "sil", "dil", "r8b", "r9b", "r10b", "r11b", "r12b", "r13b", "r14b", "r15b"],
  2: ["ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8w", "r9w", "r10w", "r11w", "r12w", "r13w", "r14w", "r15w"],
  4: ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "r8d", "r9d", "r10d", "r11d", "r12d", "r13d", "r14d", "r15d"],
  8: ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"],
};
const SIZES = { 1: "byte", 2: "word", 4: "dword", 8: "qword" } as const;

type Case = [text: string, expected: Omit<Access, "length">];
const access = (kind: number | undefined, size: number, register: number, more: Partial<Access> = {}): Omit<Access, "length"> =>
  ({ kind: kind!, size, registerSize: size, register, highByte: 0, immediate: 0n, ...more });

/** Every form with every register and every way to address memory, each at least once. */
function moves(): Case[] {
  const cases: Case[] = [];
  let next = 0;
  const place = (): string => PLACES[next++ % PLACES.length]!;
  for (const size of [1, 2, 4, 8] as const) {
    NAMES[size]!.forEach((name, register) => {
      cases.push([`mov ${place()}, ${name}`, access(WRITE, size, register, { registerSize: size === 1 ? 4 : size })]);
      cases.push([`mov ${name}, ${place()}`, access(READ, size, register)]);
      cases.push([`xchg ${name}, ${place()}`, access(EXCHANGE, size, register)]);
      cases.push([`cmpxchg ${place()}, ${name}`, access(COMPARE_EXCHANGE, size, register)]);
      cases.push([`lock cmpxchg ${place()}, ${name}`, access(COMPARE_EXCHANGE, size, register)]);
      for (const from of [1, 2] as const) {
        if (from < size) cases.push([`movzx ${name}, ${SIZES[from]} ${place()}`, access(READ, from, register, { registerSize: size })]);
      }
    });
    for (const where of PLACES) {
      cases.push([`mov ${SIZES[size]} ${where}, 0x5a`, access(WRITE_IMMEDIATE, size, 0, { immediate: 0x5an, registerSize: size === 1 ? 4 : size })]);
      cases.push([`mov ${where}, ${NAMES[size]![9]}`, access(WRITE, size, 9, { registerSize: size === 1 ? 4 : size })]);
      cases.push([`mov ${NAMES[size]![2]}, ${where}`, access(READ, size, 2)]);
    }
  }
  ["ah", "ch", "dh", "bh"].forEach((name, register) => {
    cases.push([`mov [rbx], ${name}`, access(WRITE, 1, register, { highByte: 1, registerSize: 4 })]);
    cases.push([`mov ${name}, [rbx+rsi*4+0x200]`, access(READ, 1, register, { highByte: 1 })]);
    cases.push([`xchg ${name}, [rsp+4]`, access(EXCHANGE, 1, register, { highByte: 1 })]);
    cases.push([`cmpxchg [rsp+4], ${name}`, access(COMPARE_EXCHANGE, 1, register, { highByte: 1 })]);
  });
  cases.push(["lock xchg [rbx], eax", access(EXCHANGE, 4, 0)]);
  cases.push(["mov dword [rax], 0xfffffff0", access(WRITE_IMMEDIATE, 4, 0, { immediate: 0xfffffff0n })]);
  cases.push(["mov word [rax], 0x8001", access(WRITE_IMMEDIATE, 2, 0, { immediate: 0x8001n })]);
  cases.push(["mov qword [rax], -2", access(WRITE_IMMEDIATE, 8, 0, { immediate: 0xffff_ffff_ffff_fffen })]);
  cases.push(["mov qword [rax], 0x7fffffff", access(WRITE_IMMEDIATE, 8, 0, { immediate: 0x7fffffffn })]);
  return cases;
}

/** The register size of a write and of an immediate means nothing. */
function meaning({ kind, size, registerSize, register, highByte, immediate }: Omit<Access, "length">): unknown {
  return { kind, size, highByte, immediate, register: kind === WRITE_IMMEDIATE ? 0 : register, registerSize: kind === WRITE || kind === WRITE_IMMEDIATE ? 0 : registerSize };
}

describe("instructions that reach device registers", () => {
  const cases = moves();
  const codes = assemble(cases.map(([text]) => text));

  test(`are decoded in each of ${cases.length} forms, with the length of the instruction`, () => {
    const wrong = cases.flatMap(([text, expected], i) => {
      const found = decode(codes[i]!);
      const right = found && found.length === codes[i]!.length && JSON.stringify(meaning(found), plain) === JSON.stringify(meaning(expected), plain);
      return right ? [] : [{ text, code: Buffer.from(codes[i]!).toString("hex"), found, expected }];
    });
    expect(wrong).toEqual([]);
    expect(cases.length).toBeGreaterThan(500);
  });

  test("are refused when their last byte could not be fetched", () => {
    const accepted = cases.filter((_, i) => decode(codes[i]!, codes[i]!.length - 1) !== null).map(([text]) => text);
    expect(accepted).toEqual([]);
  });
});

function plain(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

describe("all other instructions are refused", () => {
  const OTHERS = [
    "mov eax, ebx", "mov rax, r15", "movzx eax, bl", "xchg rbx, rcx", "mov eax, 5", "mov cr3, rax", "mov rax, cr3",
    "movsx eax, byte [rbx]", "movsxd rax, dword [rbx]", "add [rbx], eax", "or dword [rbx], 1", "and eax, [rbx]", "test dword [rbx], 1", "bts dword [rbx], 3",
    "cmpxchg ebx, ecx", "cmpxchg8b [rbx]", "lock cmpxchg16b [rbx]", "lock xadd [rbx], ecx", "lock bts qword [rbx], 3", "rep movsd", "movsq", "stosd", "push qword [rbx]", "pop qword [rbx]",
    "movdqu xmm0, [rbx]", "movups [rbx], xmm1", "vmovdqu ymm0, [rbx]", "movnti [rbx], rax", "movbe eax, [rbx]", "fld dword [rbx]",
    "mov al, [qword 0xfee00020]", "mov [qword 0xfee00300], eax", "lea rax, [rbx]", "nop", "hlt", "vmcall", "ret", "int3",
  ];
  const codes = assemble(OTHERS);
  test.each(OTHERS.map((text, i) => [text, codes[i]!] as const))("%s", (_text, code) => expect(decode(code)).toBeNull());

  test("nothing at all, prefixes alone, and an instruction of prefixes up to its limit", () => {
    expect(decode(new Uint8Array(0))).toBeNull();
    expect(decode(Uint8Array.from(Array<number>(15).fill(0x66)))).toBeNull();
    expect(decode(Uint8Array.from([...Array<number>(13).fill(0x2e), 0x8b, 0x03]))).toMatchObject({ kind: READ, size: 4, length: 15 });
    expect(decode(Uint8Array.from([...Array<number>(14).fill(0x2e), 0x8b, 0x03]))).toBeNull();
  });
});

describe("a register after a load", () => {
  const BEFORE = 0x1122_3344_5566_7788n;
  test.each([
    [1, false, 0xa1b2c3d4e5f60718n, 0x1122_3344_5566_7718n],
    [1, true, 0xa1b2c3d4e5f60718n, 0x1122_3344_5566_1888n],
    [2, false, 0xa1b2c3d4e5f60718n, 0x1122_3344_5566_0718n],
    [4, false, 0xa1b2c3d4e5f60718n, 0xe5f6_0718n],
    [8, false, 0xa1b2c3d4e5f60718n, 0xa1b2_c3d4_e5f6_0718n],
  ])("of %i bytes (high byte: %s) keeps what such a load keeps", (size, high, value, after) => {
    expect(call.mergeRegister!(BEFORE, value, size, high)).toBe(after);
  });

  test.each([[1, 0x88n], [2, 0x7788n], [4, 0x5566_7788n], [8, BEFORE]])("stores its low %i bytes", (size, value) => {
    expect(call.truncateTo!(BEFORE, size)).toBe(value);
  });
});
