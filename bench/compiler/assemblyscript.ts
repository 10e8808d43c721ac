/** A kernel of the dialect as AssemblyScript: the languages are near enough for a few replacements. */
export function assemblyScriptOf(source: string): string {
  return source
    .replace(/^import .*\n/gm, "")
    .replace(/: FixedArray<(\w+), (\d+)> = zeroed\(\)/g, " = new StaticArray<$1>($2)")
    .replace(/: FixedArray<(\w+), \d+> =/g, ": StaticArray<$1> =")
    .replace(/\b(0x[\da-f]+|\d+)n\b/g, "$1")
    .replace(/\bwrapU(\d+)\(/g, "u$1(");
}
