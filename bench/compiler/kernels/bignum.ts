/** Product of two numbers of 2048 bits, in limbs of 32 bits with sums of 64. */
import "../../../compiler/core/dialect.mjs";

const a: FixedArray<u64, 64> = zeroed();
const b: FixedArray<u64, 64> = zeroed();
const product: FixedArray<u64, 128> = zeroed();

function multiply(): void {
  for (let i: u32 = 0; i < 128; i++) product[i] = 0n;
  for (let i: u32 = 0; i < 64; i++) {
    let carry: u64 = 0n;
    const x: u64 = a[i];
    for (let j: u32 = 0; j < 64; j++) {
      const sum: u64 = product[i + j] + x * b[j] + carry;
      product[i + j] = sum & 0xffffffffn;
      carry = sum >> 32n;
    }
    product[i + 64] = carry;
  }
}

/** @entry */
export function bignum_init(): void {
  let seed: u32 = 3;
  for (let i: u32 = 0; i < 64; i++) {
    seed = seed * 1664525 + 1013904223;
    a[i] = u64(seed);
    b[i] = u64(seed ^ 0x9e3779b9);
  }
}

/** @entry */
export function bignum_run(rounds: u32): u32 {
  for (let r: u32 = 0; r < rounds; r++) {
    multiply();
    a[r & 63] = product[(r & 63) + 64];
  }
  return wrapU32(product[5] ^ product[100]);
}
