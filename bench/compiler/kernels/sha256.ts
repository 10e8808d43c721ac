/** SHA-256 over 16 KiB in blocks of 64 bytes, without the final padding. */
import "../../../compiler/core/dialect.mjs";

const buffer: FixedArray<u8, 16384> = zeroed();
const h: FixedArray<u32, 8> = zeroed();
const w: FixedArray<u32, 64> = zeroed();
const K: FixedArray<u32, 64> = [
  0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
  0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
  0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
  0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
  0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
  0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
  0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
  0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];
const START: FixedArray<u32, 8> = [
  0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

function rotate(x: u32, n: u32): u32 {
  return (x >> n) | (x << (32 - n));
}

function block(at: u32): void {
  for (let i: u32 = 0; i < 16; i++) {
    const p: u32 = at + i * 4;
    w[i] = (u32(buffer[p]) << 24) | (u32(buffer[p + 1]) << 16) | (u32(buffer[p + 2]) << 8) | u32(buffer[p + 3]);
  }
  for (let i: u32 = 16; i < 64; i++) {
    const x: u32 = w[i - 15];
    const y: u32 = w[i - 2];
    const s0: u32 = rotate(x, 7) ^ rotate(x, 18) ^ (x >> 3);
    const s1: u32 = rotate(y, 17) ^ rotate(y, 19) ^ (y >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  let a: u32 = h[0];
  let b: u32 = h[1];
  let c: u32 = h[2];
  let d: u32 = h[3];
  let e: u32 = h[4];
  let f: u32 = h[5];
  let g: u32 = h[6];
  let k: u32 = h[7];
  for (let i: u32 = 0; i < 64; i++) {
    const t1: u32 = k + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + K[i] + w[i];
    const t2: u32 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    k = g;
    g = f;
    f = e;
    e = d + t1;
    d = c;
    c = b;
    b = a;
    a = t1 + t2;
  }
  h[0] += a;
  h[1] += b;
  h[2] += c;
  h[3] += d;
  h[4] += e;
  h[5] += f;
  h[6] += g;
  h[7] += k;
}

/** @entry */
export function sha256_init(): void {
  for (let i: u32 = 0; i < 16384; i++) buffer[i] = wrapU8(i * 31 + (i >> 7));
}

/** @entry */
export function sha256_run(rounds: u32): u32 {
  for (let i: u32 = 0; i < 8; i++) h[i] = START[i];
  for (let r: u32 = 0; r < rounds; r++) {
    for (let at: u32 = 0; at < 16384; at += 64) block(at);
  }
  return h[0] ^ h[7];
}
