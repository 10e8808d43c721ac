/** Messages of a kind, a length and a body, parsed from a ring of 4096 bytes. */
import "../../../compiler/core/dialect.mjs";

const ring: FixedArray<u8, 4096> = zeroed();
const totals: FixedArray<u32, 4> = zeroed();

function byte(at: u32): u32 {
  return u32(ring[at & 4095]);
}

/** Takes one message; gives where the next begins. */
function message(at: u32): u32 {
  const kind: u32 = byte(at);
  const length: u32 = byte(at + 1);
  let sum: u32 = 0;
  for (let i: u32 = 0; i < length; i++) sum = (sum << 1) + byte(at + 2 + i);
  switch (kind & 3) {
    case 0: totals[0] += sum; break;
    case 1: totals[1] ^= sum; break;
    case 2: totals[2] += sum * 3; break;
    default: totals[3] -= sum; break;
  }
  return at + 2 + length;
}

/** @entry */
export function ring_init(): void {
  let seed: u32 = 7;
  for (let i: u32 = 0; i < 4096; i++) {
    seed = seed * 1664525 + 1013904223;
    ring[i] = wrapU8(seed >> 26);
  }
}

/** @entry */
export function ring_run(rounds: u32): u32 {
  let at: u32 = 0;
  for (let r: u32 = 0; r < rounds; r++) {
    for (let i: u32 = 0; i < 4096; i++) at = message(at);
  }
  return totals[0] ^ totals[1] ^ totals[2] ^ totals[3];
}
