/** CRC-32 of 64 KiB, by a table. */
import "../../../compiler/core/dialect.mjs";

const table: FixedArray<u32, 256> = zeroed();
const buffer: FixedArray<u8, 65536> = zeroed();

/** @entry */
export function crc32_init(): void {
  for (let i: u32 = 0; i < 256; i++) {
    let c: u32 = i;
    for (let k: u32 = 0; k < 8; k++) c = (c & 1) !== 0 ? (c >> 1) ^ 0xedb88320 : c >> 1;
    table[i] = c;
  }
  for (let i: u32 = 0; i < 65536; i++) buffer[i] = wrapU8(i * 7 + (i >> 8));
}

/** @entry */
export function crc32_run(rounds: u32): u32 {
  let sum: u32 = 0;
  for (let r: u32 = 0; r < rounds; r++) {
    let crc: u32 = ~sum;
    for (let i: u32 = 0; i < 65536; i++) crc = (crc >> 8) ^ table[(crc ^ u32(buffer[i])) & 255];
    sum = ~crc;
  }
  return sum;
}
