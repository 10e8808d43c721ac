/** Translations by four levels of page tables, which lie in a pool; an entry's frame is the pool's index. */
import "../../../compiler/core/dialect.mjs";

const pool: FixedArray<u64, 32768> = zeroed();
let used: u32 = 1;

const PRESENT: u64 = 1n;

/** The table below an entry, made if it is not there. */
function below(table: u32, index: u32): u32 {
  const at: u32 = table * 512 + index;
  if ((pool[at] & PRESENT) === 0n) {
    pool[at] = (u64(used) << 12n) | PRESENT;
    used++;
  }
  return u32((pool[at] >> 12n) & 63n);
}

function map(address: u64, frame: u64): void {
  let table: u32 = 0;
  for (let shift: u64 = 39n; shift > 12n; shift -= 9n) table = below(table, u32((address >> shift) & 511n));
  pool[table * 512 + u32((address >> 12n) & 511n)] = (frame << 12n) | PRESENT;
}

/** The physical address, or all ones. */
function walk(address: u64): u64 {
  let entry: u64 = PRESENT;
  for (let shift: u64 = 39n; shift >= 12n; shift -= 9n) {
    const table: u32 = u32((entry >> 12n) & 63n);
    entry = pool[table * 512 + u32((address >> shift) & 511n)];
    if ((entry & PRESENT) === 0n) return ~0n;
  }
  return (entry & ~4095n) | (address & 4095n);
}

/** @entry */
export function pagewalk_init(): void {
  let at: u64 = 0n;
  for (let i: u32 = 0; i < 4096; i++) {
    at = (at + 0x3000n) & 0x1ffffffn;
    map(at | 0x7f0000000000n, u64(i & 31));
  }
}

/** @entry */
export function pagewalk_run(rounds: u32): u32 {
  let sum: u64 = 0n;
  let address: u64 = 0x7f0000000123n;
  for (let r: u32 = 0; r < rounds; r++) {
    for (let i: u32 = 0; i < 16384; i++) {
      address = 0x7f0000000000n | ((address * 0x5851f42d4c957f2dn + 1n) & 0x1ffffffn);
      sum = sum * 3n + walk(address);
    }
  }
  return wrapU32(sum ^ (sum >> 32n));
}
