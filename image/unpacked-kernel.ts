import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { projectDir } from "./paths.ts";
import { UserError, atomically, run } from "./tools.ts";

/** Offsets of the setup header's fields in a bzImage (Linux: Documentation/arch/x86/boot.rst). */
const SETUP_SECTS = 0x1f1;
const HEADER_MAGIC = 0x202;
const PAYLOAD_OFFSET = 0x248;
const PAYLOAD_LENGTH = 0x24c;

/** How compressed payloads begin, and what unpacks them. The kernel's build appends four bytes of length: hence -q. */
const formats: { magic: number[]; command: string; args: string[] }[] = [
  { magic: [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00], command: "xz", args: ["-dc", "--single-stream"] },
  { magic: [0x28, 0xb5, 0x2f, 0xfd], command: "zstd", args: ["-dcq"] },
  { magic: [0x1f, 0x8b], command: "gzip", args: ["-dcq"] },
  { magic: [0x02, 0x21, 0x4c, 0x18], command: "lz4", args: ["-dcq"] },
  { magic: [0x5d, 0x00, 0x00], command: "xz", args: ["--format=lzma", "-dc"] },
  { magic: [0x42, 0x5a, 0x68], command: "bzip2", args: ["-dcq"] },
  { magic: [0x89, 0x4c, 0x5a, 0x4f], command: "lzop", args: ["-dcq"] },
  { magic: [0x7f, 0x45, 0x4c, 0x46], command: "cat", args: [] },
];

/** The vmlinux (an ELF file) that a bzImage carries. */
export function extractVmlinux(vmlinuz: string): Buffer {
  const image = readFileSync(vmlinuz);
  if (image.toString("latin1", HEADER_MAGIC, HEADER_MAGIC + 4) !== "HdrS") throw new UserError(`${vmlinuz} is not a bzImage`);
  const protectedMode = ((image[SETUP_SECTS] || 4) + 1) * 512;
  const start = protectedMode + image.readUInt32LE(PAYLOAD_OFFSET);
  // Without its last four bytes, the length of what is unpacked, which only some formats would tolerate.
  const payload = image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH) - 4);
  const format = formats.find(({ magic }) => magic.every((byte, i) => payload[i] === byte));
  if (!format) throw new UserError(`${vmlinuz}: unknown compression (${payload.toString("hex", 0, 6)})`);
  const whole = format.command === "xz" ? image.subarray(start, start + image.readUInt32LE(PAYLOAD_LENGTH)) : payload;
  return run(format.command, format.args, { input: whole });
}

/** A part of the kernel in memory: the file's bytes, then zeroes up to its size. */
interface Segment {
  address: number;
  bytes: Buffer;
  size: number;
}

const up = (value: number, multiple: number) => Math.ceil(value / multiple) * multiple;

/** The loadable segments of a vmlinux by ascending address, without the zeroes at their ends. */
function loadableSegments(elf: Buffer): { segments: Segment[]; entry: number } {
  const PT_LOAD = 1;
  const word = (offset: number) => Number(elf.readBigUInt64LE(offset));
  const headers = word(32);
  const size = elf.readUInt16LE(54);
  const entry = word(24);
  const segments: Segment[] = [];
  for (let i = 0, at = headers; i < elf.readUInt16LE(56); i++, at += size) {
    if (elf.readUInt32LE(at) !== PT_LOAD) continue;
    const [offset, address, fileSize, memorySize] = [word(at + 8), word(at + 24), word(at + 32), word(at + 40)];
    let end = offset + fileSize;
    while (end > offset && elf[end - 1] === 0) end--;
    segments.push({ address, bytes: elf.subarray(offset, end), size: memorySize });
  }
  return { segments: segments.sort((a, b) => a.address - b.address), entry };
}

/**
 * Compresses a segment into what the stub unpacks: LZ4 blocks, each with its length before it, and a length of 0.
 * That is LZ4's frame format (github.com/lz4/lz4, lz4_Frame_format.md) without its descriptor.
 */
function compress(bytes: Buffer): Buffer {
  const CONTENT_SIZE = 0x08;
  const INDEPENDENT = 0x20;
  const frame = run("lz4", ["-12", "-BD", "--no-frame-crc", "--no-content-size", "-cz"], { input: bytes });
  const flags = frame[4]!;
  // Version 1, no checksums and no dictionary: else there would be more than blocks.
  if ((flags & ~(CONTENT_SIZE | INDEPENDENT)) !== 0x40) throw new UserError(`lz4 wrote a frame with flags 0x${flags.toString(16)}, which the boot stub can't read`);
  return frame.subarray(flags & CONTENT_SIZE ? 15 : 7);
}

const ALIGNMENT = 2 << 20;
/** Where the segments start; the stub has the same number. */
const PAYLOAD = 0x8000;

/** The files that decide what {@link makeUnpackedKernel} makes. */
export const unpackedKernelRecipe = ["image/unpacked-kernel.ts", "boot/unpacked-kernel.asm"].map((file) => join(projectDir, file));

/** Makes, from a bzImage, one whose kernel is quickly unpacked: see boot/unpacked-kernel.asm. */
export function makeUnpackedKernel(vmlinuz: string, release: string, output: string): void {
  const { segments, entry } = loadableSegments(extractVmlinux(vmlinuz));
  const first = segments[0];
  if (!first || first.address % ALIGNMENT !== 0) throw new UserError(`${vmlinuz}: its vmlinux does not start at a multiple of 2 MiB`);
  let offset = 0;
  let end = 0;
  const lines: string[] = [];
  const payload: Buffer[] = [];
  for (const { address, bytes, size } of segments) {
    const start = address - first.address;
    if (start < end) throw new UserError(`${vmlinuz}: its segments overlap`);
    end = start + size;
    lines.push(`SEGMENT ${offset}, ${start}, ${end}`);
    const packed = compress(bytes);
    payload.push(packed);
    offset += packed.length;
  }
  payload.push(Buffer.alloc(up(offset, 16) - offset));
  const target = up(PAYLOAD + offset, ALIGNMENT);
  atomically(output, (temporary) => {
    const list = `${temporary}.inc`;
    writeFileSync(list, lines.join("\n") + "\n");
    const define = {
      RELEASE: `"${release}"`,
      PAYLOAD_PARAGRAPHS: up(offset, 16) / 16,
      TARGET: target,
      INIT_SIZE: target + up(end, 4096),
      PREFERRED: first.address,
      ENTRY: entry - first.address,
      SEGMENTS: `"${list}"`,
    };
    const defines = Object.entries(define).map(([name, value]) => `-D${name}=${value}`);
    run("nasm", ["-f", "bin", ...defines, "-o", temporary, unpackedKernelRecipe[1]!]);
    rmSync(list);
    writeFileSync(temporary, Buffer.concat(payload), { flag: "a" });
  });
}
