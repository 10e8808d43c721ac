import { buildIso } from "../image/iso.ts";
import { fail } from "../image/tools.ts";

/** Builds the ISO in a process of its own, so that the demonstration can show meanwhile that it waits; prints its path last. */
try {
  console.log(buildIso());
} catch (error) {
  fail(error);
}
