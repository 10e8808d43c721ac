import { expect, test } from "vitest";
import { switches } from "./time-share.ts";

// OS 1 runs from 0 to 100, from 220 to 300 and from 410 on; OS 2 in between, each a few ticks later.
const one = { start: 0, gaps: [[100, 120, 1], [80, 110, 0]] as [number, number, 0 | 1][] };
const two = { start: 110, gaps: [[95, 107, 0], [80, 200, 1]] as [number, number, 0 | 1][] };

test("a switch takes from the last stamp of the one to the first of the other", () => {
  expect(switches(one, two)).toEqual([{ ticks: 312 - 300, interrupted: false }]);
  expect(switches(two, one)).toEqual([{ ticks: 220 - 205, interrupted: true }, { ticks: 410 - 392, interrupted: false }]);
});

test("a gap in which the other one did not come back is no switch", () => {
  expect(switches({ start: 0, gaps: [[1000, 5, 1]] }, two)).toEqual([]);
  expect(switches(one, { start: 110, gaps: [] })).toEqual([]);
});
