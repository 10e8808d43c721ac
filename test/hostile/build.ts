import { join } from "node:path";
import { type Kernel, chosenKernels, getKernel } from "../../image/kernel.ts";
import { buildIso } from "../../image/iso.ts";
import { buildDir, projectDir } from "../../image/paths.ts";
import { fail, run } from "../../image/tools.ts";

/** Builds what the tests in emulators need besides the product. */
function buildHostile(kernel: Kernel): Record<string, string> {
  const out = join(buildDir, "hostile", kernel.release);
  const make = (...args: string[]) => run("make", ["-C", join(projectDir, "test/hostile"), ...args, `OUT=${out}`]);
  make("module", `KDIR=${kernel.headersDir}`);
  make("rest");
  return {
    "lib/hostile/hostile.ko": join(out, "hostile.ko"),
    "lib/hostile/kernel": join(out, "hostile-kernel"),
    "bin/ask": join(out, "ask"),
    "bin/ring3": join(out, "ring3"),
  };
}

/** Builds the ISO of the tests in emulators; prints its path. */
try {
  console.log(buildIso({ files: buildHostile(getKernel(chosenKernels().kernel1)) }));
} catch (error) {
  fail(error);
}
