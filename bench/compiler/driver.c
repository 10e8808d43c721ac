// Runs one kernel and says its checksum and how many nanoseconds its rounds took: driver <rounds>.
#define _POSIX_C_SOURCE 199309L
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#ifdef WASM
#include WASM
static INSTANCE instance;
#define CALL_INIT() (wasm_rt_init(), INIT_MODULE(), INSTANTIATE(&instance), INIT(&instance))
#define CALL_RUN(rounds) RUN(&instance, rounds)
#else
void INIT(void);
uint32_t RUN(uint32_t rounds);
#define CALL_INIT() INIT()
#define CALL_RUN(rounds) RUN(rounds)
#endif

_Noreturn void onTrap(uint32_t site);
_Noreturn void onTrap(uint32_t site) {
  fprintf(stderr, "trap %" PRIu32 "\n", site);
  exit(1);
}

int main(int argc, char **argv) {
  uint32_t rounds = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 1;
  struct timespec start, end;
  CALL_INIT();
  uint32_t warm = CALL_RUN(1);
  clock_gettime(CLOCK_MONOTONIC, &start);
  uint32_t sum = CALL_RUN(rounds);
  clock_gettime(CLOCK_MONOTONIC, &end);
  printf("%" PRIu32 " %lld\n", sum + warm, (end.tv_sec - start.tv_sec) * 1000000000ll + end.tv_nsec - start.tv_nsec);
  return 0;
}
