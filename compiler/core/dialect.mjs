// Node runs this where a module of the dialect is imported without the compiler, which drops the import of it.
throw new Error("a module of the dialect is imported as ordinary TypeScript, which would neither wrap nor trap: see \"In Node\" in docs/language.md");
