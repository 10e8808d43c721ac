/** Heap sort of 4096 process numbers. */
import "../../../compiler/core/dialect.mjs";

const pids: FixedArray<u32, 4096> = zeroed();

function sink(start: u32, end: u32): void {
  let at: u32 = start;
  while (at * 2 + 1 < end) {
    let child: u32 = at * 2 + 1;
    if (child + 1 < end && pids[child] < pids[child + 1]) child++;
    if (pids[at] >= pids[child]) return;
    const pid: u32 = pids[at];
    pids[at] = pids[child];
    pids[child] = pid;
    at = child;
  }
}

/** @entry */
export function pidsort_init(): void {
  pids[0] = 1;
}

/** @entry */
export function pidsort_run(rounds: u32): u32 {
  let sum: u32 = 0;
  for (let r: u32 = 0; r < rounds; r++) {
    let seed: u32 = r + 1;
    for (let i: u32 = 0; i < 4096; i++) {
      seed = seed * 1664525 + 1013904223;
      pids[i] = seed >> 10;
    }
    for (let i: u32 = 2048; i > 0; i--) sink(i - 1, 4096);
    for (let end: u32 = 4095; end > 0; end--) {
      const pid: u32 = pids[0];
      pids[0] = pids[end];
      pids[end] = pid;
      sink(0, end);
    }
    for (let i: u32 = 0; i < 4096; i++) sum = sum * 31 + pids[i];
  }
  return sum;
}
