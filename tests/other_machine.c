/* Another machine under the tests, loaded with LD_PRELOAD (Makefile: test-settings).
 *
 * MKL is told that the processor is an AMD Zen: its products of vectors and of transposed matrices then depend, in the last
 * bit, on where in memory their factors stand. With MISALIGNED set, torch's tensors stand 8, 24, 40 or 56 bytes behind the
 * multiples of 64 that torch asks for, by turns, as tensors do that are read in place from safetensors files.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int mkl_serv_intel_cpu(void) { return 0; }
int mkl_serv_intel_cpu_true(void) { return 0; }
int mkl_serv_cpuiszen(void) { return 1; }

static int asked_by_torch(void *caller) {
    static void *torch; /* the one place that asks for memory of tensors */
    Dl_info from;
    if (caller != torch && dladdr(caller, &from) && from.dli_fname && strstr(from.dli_fname, "libc10.so")) torch = caller;
    return caller == torch;
}

int posix_memalign(void **out, size_t alignment, size_t size) {
    static int (*original)(void **, size_t, size_t);
    static uint32_t turn;
    if (!original) original = dlsym(RTLD_NEXT, "posix_memalign");
    if (alignment != 64 || !getenv("MISALIGNED") || !asked_by_torch(__builtin_return_address(0)))
        return original(out, alignment, size);
    void *start;
    int failed = original(&start, 64, size + 128);
    if (failed) return failed;
    turn = turn * 1664525u + 1013904223u;
    char *tensor = (char *)start + 24 + 16 * (turn >> 30);
    memcpy(tensor - sizeof start, &start, sizeof start);
    *out = tensor;
    return 0;
}

void free(void *memory) {
    static void (*original)(void *);
    if (!original) original = dlsym(RTLD_NEXT, "free");
    if ((uintptr_t)memory & 15) memcpy(&memory, (char *)memory - sizeof memory, sizeof memory); /* others: multiples of 16 */
    original(memory);
}
