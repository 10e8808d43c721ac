/**
 * What happened, in order: a ring that understudy status and events read.
 * The VMM formats nothing; it only records.
 */
import { Event, EventType } from './abi.ts';
import { readTsc } from './machine/intrinsics.ts';

export const EVENT_COUNT: u32 = 512;
const ring: FixedArray<Event, 512> = zeroed();
let next: u64 = 0n;

export function record(type: EventType, instance: u32, cpu: u32, a: u64, b: u64): void {
  const sequence: u64 = atomicAdd(next, 1n);
  const event = ring[wrapU32(sequence) % EVENT_COUNT];
  event.tick = readTsc();
  event.type = type;
  event.instance = wrapU16(instance);
  event.cpu = wrapU16(cpu);
  event.a = a;
  event.b = b;
}

/** Sequence number that the next event will get. */
export function nextSequence(): u64 {
  return atomicLoad(next);
}

/** Only the newest EVENT_COUNT events are kept. */
export function eventAt(sequence: u64): Event {
  return ring[wrapU32(sequence) % EVENT_COUNT];
}
