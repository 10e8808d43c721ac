/** What an instance may do with a page of its memory map. Nothing is written or executed that may not be read. */
export const MAP_READ: u64 = 1n;
export const MAP_WRITE: u64 = 2n;
export const MAP_EXECUTE: u64 = 4n;
export const MAP_ALL: u64 = 7n;
