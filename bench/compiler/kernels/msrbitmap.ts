/** Look-ups in the MSR bitmaps of VMX: low and high MSRs, reads and writes (SDM Vol. 3C, 26.6.9). */
import "../../../compiler/core/dialect.mjs";

const bitmap: FixedArray<u8, 4096> = zeroed();

function exits(index: u32, write: boolean): boolean {
  const half: u32 = write ? 2048 : 0;
  const high: boolean = index >= 0xc0000000;
  const bit: u32 = high ? index - 0xc0000000 : index;
  if (bit > 0x1fff) return true;
  const at: u32 = half + (high ? 1024 : 0) + (bit >> 3);
  return ((u32(bitmap[at]) >> (bit & 7)) & 1) !== 0;
}

/** @entry */
export function msrbitmap_init(): void {
  for (let i: u32 = 0; i < 4096; i++) bitmap[i] = wrapU8((i * 2654435761) >> 13);
}

/** @entry */
export function msrbitmap_run(rounds: u32): u32 {
  let count: u32 = 0;
  let seed: u32 = 1;
  for (let r: u32 = 0; r < rounds; r++) {
    for (let i: u32 = 0; i < 65536; i++) {
      seed = seed * 1664525 + 1013904223;
      const index: u32 = (seed & 0xc0000000) | ((seed >> 8) & 0x3fff);
      if (exits(index, (seed & 16) !== 0)) count++;
    }
  }
  return count;
}
