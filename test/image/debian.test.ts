import { expect, test } from "vitest";
import { getPackage } from "../../image/debian.ts";
import { chosenKernels } from "../../image/kernel.ts";

test("what is no package name is refused before anything is fetched", () => {
  expect(() => getPackage("linux image")).toThrow("'linux image' is not a Debian package name");
  expect(() => getPackage("../../etc")).toThrow("is not a Debian package name");
});

test("KERNEL chooses both kernels, KERNEL1 and KERNEL2 one each", () => {
  expect(chosenKernels({})).toEqual({ kernel1: "linux-image-amd64", kernel2: "linux-image-amd64" });
  expect(chosenKernels({ KERNEL: "a" })).toEqual({ kernel1: "a", kernel2: "a" });
  expect(chosenKernels({ KERNEL: "a", KERNEL2: "b" })).toEqual({ kernel1: "a", kernel2: "b" });
});
