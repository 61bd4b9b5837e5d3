/*
 * tests/fuzz/smoke_driver.c - runs a libFuzzer target without libFuzzer: every
 * file of the corpus folder whole, cut at every byte (small ones) and with bits
 * flipped from a fixed seed.  A crash or a sanitizer's report is the failure.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static unsigned long runs;

static void
run(const uint8_t *data, size_t size)
{
    /* An exact copy, so that ASan sees a read past the end. */
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    if (copy == NULL)
        abort();
    if (size > 0)
        memcpy(copy, data, size);
    LLVMFuzzerTestOneInput(copy, size);
    free(copy);
    runs++;
}

static uint64_t
next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void
run_file(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return;
    static uint8_t data[1 << 20];
    size_t n = fread(data, 1, sizeof(data), f);
    fclose(f);

    run(data, n);
    size_t step = n / 512 + 1;
    for (size_t cut = 0; cut < n; cut += step)
        run(data, cut);
    uint64_t seed = 0x9e3779b97f4a7c15U;
    for (int i = 0; i < 200 && n > 0; i++) {
        size_t at = next_random(&seed) % n;
        uint8_t old = data[at];
        data[at] = (uint8_t)next_random(&seed);
        run(data, n);
        data[at] = old;
    }
}

int
main(int argc, char **argv)
{
    run((const uint8_t *)"", 0);
    for (int i = 1; i < argc; i++) {
        DIR *dir = opendir(argv[i]);
        if (dir == NULL)
            continue;
        for (struct dirent *e; (e = readdir(dir)) != NULL;) {
            if (e->d_name[0] == '.')
                continue;
            char path[4096];
            snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
            run_file(path);
        }
        closedir(dir);
    }
    printf("%lu runs\n", runs);
    return 0;
}
